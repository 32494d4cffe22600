"""extract at the speed of the forward pass: the stage against the bare network, in one run.

    python benchmarks/extract.py [--photographs FOLDER] [--squeezenet WEIGHTS]

`forward` is the network alone on the same images in memory, all cores, in batches of 16 or of 4,
whichever is faster here; the next two take that size, too. `one by one` is decode, resize,
normalise and forward one after the other, nothing overlapped and nothing stored; `decode in
threads` decodes each batch with all cores first. `stage` is all of `dff extract` but the start of
Python: loading weights, decoding, forward passes, encoding, writing, publishing. Each network is
timed in turn with the others, several times over; figures are medians.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # the project, not this folder

import numpy as np
import torch
import torchvision

from benchmarks.common import draw_photographs, interleaved, make_project, report, seconds
from pipeline.params import read_params
from pipeline.resources import make_resources
from stages.algorithms.backbone import Backbone, load_backbone
from stages.artifacts.image_index import ImageIndex
from stages.extract.stage import EXTRACT
from stages.frame.execute import execute
from stages.images.decode import decode_rgb
from stages.images.resize import normalise, resize_rgb
from store import open_artifact

SIZES = (16, 4)


def prepared(index: ImageIndex, network: Backbone, i: int) -> np.ndarray:
    rgb = resize_rgb(decode_rgb(index.read(i)), (224, 224))
    return normalise(rgb, network.mean, network.std)


def batches(images: list[np.ndarray], size: int) -> list[torch.Tensor]:
    return [
        torch.from_numpy(np.stack(images[i : i + size])).permute(0, 3, 1, 2)
        for i in range(0, len(images), size)
    ]


def run_all(network: Backbone, inputs: list[torch.Tensor]) -> None:
    for batch in inputs:
        network(batch)
    if network.device.type == "cuda":
        torch.cuda.synchronize()


def best(work: Callable[[], Any]) -> float:
    return min(seconds(work) for _ in range(2))


def cases(project: Path, network: Backbone, count: int) -> dict[str, Callable[[], Any]]:
    index = ImageIndex.open(project / "artifacts/index", project)
    images = [prepared(index, network, i) for i in range(count)]
    size = min(SIZES, key=lambda size: best(lambda: run_all(network, batches(images[:32], size))))
    in_memory = batches(images, size)
    params, resources = read_params(project)["extract"], make_resources("auto", 0, "8GiB", "")

    def forward() -> None:
        run_all(network, in_memory)

    def one_by_one() -> None:
        for start in range(0, count, size):
            chosen = range(start, min(start + size, count))
            run_all(network, batches([prepared(index, network, i) for i in chosen], size))

    def decode_in_threads() -> None:
        with ThreadPoolExecutor(resources.workers) as pool:
            for start in range(0, count, size):
                chosen = range(start, min(start + size, count))
                images = list(pool.map(lambda i: prepared(index, network, i), chosen))
                run_all(network, batches(images, size))

    def stage() -> None:
        shutil.rmtree(project / "artifacts/activations.zarr", ignore_errors=True)
        execute(EXTRACT, params, project, resources)

    return {
        "forward": forward,
        "one by one": one_by_one,
        "decode in threads": decode_in_threads,
        "stage": stage,
    }


def saved(path: Path, backbone: str) -> str:
    """A weights file of random features."""
    network = torchvision.models.get_model(backbone)
    torch.save({f"features.{k}": v for k, v in network.features.state_dict().items()}, path)
    return str(path)


def measure(folder: Path, photographs: Path, runs: int, **extract: Any) -> dict[str, Any]:
    project = make_project(folder, photographs, **extract)
    params = read_params(project)["extract"]
    device = make_resources("auto", 0, "auto", "").torch_device()
    weights = str(project / params.weights) if "/" in params.weights else params.weights
    network = load_backbone(params.backbone, params.layers, weights, device, params.precision)
    count = len(ImageIndex.open(project / "artifacts/index", project).images)
    timed = cases(project, network, count)
    timed["forward"]()  # warm
    found = {name: statistics.median(times) for name, times in interleaved(timed, runs).items()}
    layer = open_artifact(project / "artifacts/activations.zarr").ragged(params.layers[0])
    return {
        "network": f"{params.backbone} {params.layers[0]} {params.precision}",
        "images": count,
        **{f"{name}/s": count / time for name, time in found.items()},
        "stage : forward": found["forward"] / found["stage"],
        "stage : one by one": found["one by one"] / found["stage"],
        "stage : threads": found["decode in threads"] / found["stage"],
        "non-zero %": 100 * layer.density,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path, help="folder of images; else some are drawn")
    parser.add_argument("--squeezenet", default="random:0", help="weights of squeezenet1_1")
    parser.add_argument("--vgg19", default="random:0", help="weights of vgg19")
    parser.add_argument("--images", type=int, default=128, help="for VGG-19; SqueezeNet takes 4x")
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        some = []
        for name, count in (("few", chosen.images), ("many", 4 * chosen.images)):
            if chosen.photographs:
                (home / name).mkdir()
                files = [p for p in sorted(chosen.photographs.rglob("*")) if p.suffix == ".jpg"]
                for i, path in enumerate(files[:count]):
                    shutil.copy(path, home / name / f"{i:05d}.jpg")
                some.append(home / name)
            else:
                some.append(draw_photographs(home / name, count))
        few, many = some
        # a network's weights come from a file, as in real use, and not from minutes of drawing
        files = {
            name: saved(home / f"{name}.pth", name) if weights == "random:0" else weights
            for name, weights in (
                ("squeezenet1_1", chosen.squeezenet),
                ("vgg19", chosen.vgg19),
            )
        }
        rows = [
            measure(home / "p", photographs, chosen.runs, backbone=name, weights=weights,
                    layers=[layer], precision=precision)
            for photographs, name, weights, layer, precision in (
                (many, "squeezenet1_1", files["squeezenet1_1"], "features.12", "float32"),
                (many, "squeezenet1_1", files["squeezenet1_1"], "features.12", "bfloat16"),
                (few, "vgg19", files["vgg19"], "conv5_4", "float32"),
                (few, "vgg19", files["vgg19"], "conv5_4", "bfloat16"),
            )
        ]  # fmt: skip
    source = str(chosen.photographs.resolve().name) if chosen.photographs else "drawn"
    report("extract", "Images per second", rows, runs=chosen.runs, photographs=source)


if __name__ == "__main__":
    main()
