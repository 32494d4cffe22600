"""extract stays within --memory: for 100 or 100 000 images, and for several layers at once.

    python benchmarks/memory.py [--many 100000]

Each line is one `dff extract` in a process of its own, with its peak RSS as the kernel counts it:
interpreter, libraries and weights included.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # the project, not this folder

from benchmarks.common import draw_photographs, make_project, report, run_dff
from benchmarks.extract import saved
from pipeline.params import read_params

LAYERS = ["conv1_2", "conv2_2", "conv3_4", "conv4_4", "conv5_4"]


def copies(folder: Path, source: Path, count: int) -> Path:
    """Many small files that differ in content, made from a few."""
    folder.mkdir()
    originals = [path.read_bytes() for path in sorted(source.iterdir())]
    for number in range(count):
        # a comment behind the end of a JPEG changes its hash, not its pixels
        content = originals[number % len(originals)] + number.to_bytes(4, "big")
        (folder / f"{number:06d}.jpg").write_bytes(content)
    return folder


def measure(project: Path, memory: str) -> dict[str, Any]:
    params = read_params(project)["extract"]
    images = len(list((Path(project) / params_root(project)).iterdir()))
    used = run_dff(project, "extract", "--memory", memory)
    budget = int(memory.removesuffix("MiB"))
    return {
        "network": f"{params.backbone}, size {params.size}, batch {params.batch}",
        "layers": len(params.layers),
        "images": images,
        "--memory, MiB": budget,
        "peak RSS, MiB": used["peak_mib"],
        "within": "yes" if used["peak_mib"] <= budget else "NO",
        "images/s": images / used["seconds"],
    }


def params_root(project: Path) -> str:
    return str(read_params(project)["index"].root)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--many", type=int, default=100_000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        tiny = draw_photographs(home / "tiny", 50, (40, 32))
        rows = []
        for count in (100, chosen.many):
            project = make_project(
                home / f"p{count}", copies(home / f"{count}", tiny, count),
                backbone="demo", weights="bundled", layers=["conv4_2"], size=32, batch=64,
            )  # fmt: skip
            rows.append(measure(project, "1024MiB"))
        large = draw_photographs(home / "large", 96)
        vgg19, squeezenet = (saved(home / f"{n}.pth", n) for n in ("vgg19", "squeezenet1_1"))
        for number, (backbone, weights, layers, memory) in enumerate(
            (
                ("squeezenet1_1", squeezenet, ["features.12"], "1152MiB"),
                ("squeezenet1_1", squeezenet, ["features.12"], "4096MiB"),
                ("vgg19", vgg19, ["conv5_4"], "1536MiB"),
                ("vgg19", vgg19, ["conv5_4"], "4096MiB"),
                ("vgg19", vgg19, LAYERS, "3072MiB"),
                ("vgg19", vgg19, LAYERS, "6144MiB"),
            )
        ):
            project = make_project(
                home / f"l{number}", large, backbone=backbone, weights=weights, layers=layers
            )
            rows.append(measure(project, memory))
    report("memory", "Peak RSS of dff extract", rows)


if __name__ == "__main__":
    main()
