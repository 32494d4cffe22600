"""Refinement's speed, memory and bytes on disk: guided mean field against pydensecrf.

    python benchmarks/refine.py --photographs PATH/TO/REAL --weights SQUEEZENET1_1.pth

PHOTOGRAPHS holds `weizmann` and `msrc_cow`. Their images and masks are resized to 375 x 500, with
maps of the same size and k = 4. Both refiners get all cores: threads for the one, worker processes
for the other. A timing runs from the first refined image to the last, so that no start of processes
is in it; reading, decoding and unaries are. Figures are medians of interleaved runs. IoU is that of
k = 1 on all images of the same collection, at 375 x 500. `stage` rows are `dff refine` as a whole,
in a process of its own.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # the project, not this folder

import numpy as np
from PIL import Image

from benchmarks.common import make_project, report, run_dff
from pipeline.params import read_params
from pipeline.registry import STAGES
from pipeline.resources import make_resources
from stages.algorithms.masks import binarise, pack_masks, resize_masks
from stages.algorithms.metrics import RegionCounts
from stages.artifacts.concept_maps import ConceptMaps, entry_sets
from stages.artifacts.image_index import ImageIndex
from stages.frame.execute import execute
from stages.refine.layer import LayerTasks
from stages.refine.refiners.densecrf import DenseCrf
from stages.refine.refiners.guided import Guided
from stages.refine.refiners.refiner import Refiner
from stages.refine.work import refined
from store import open_artifact

COMPARED: dict[str, Refiner] = {
    "guided": Guided(),
    "guided, the paper's (full size, no colour term)": Guided(
        weight=10.0, colour_weight=0.0, working_side=0
    ),
    "pydensecrf": DenseCrf(iterations=5),
}
SETS = ("weizmann", "msrc_cow")


def resize_collection(source: Path, target: Path, count: int) -> Path:
    """`count` images and masks, evenly spread, as 375 x 500 or 500 x 375."""
    images = sorted(path for path in (source / "images").iterdir() if path.suffix != ".txt")
    for kind in ("images", "masks"):
        (target / kind).mkdir(parents=True)
    for at in np.unique(np.linspace(0, len(images) - 1, count).round().astype(int)):
        image = Image.open(images[at]).convert("RGB")
        size = (500, 375) if image.width >= image.height else (375, 500)
        image.resize(size, Image.Resampling.BICUBIC).save(
            target / "images" / f"{images[at].stem}.jpg", quality=95
        )
        mask = Image.open(source / "masks" / f"{images[at].stem}.png").convert("L")
        mask = mask.point(lambda value: 255 if value else 0)
        mask.resize(size, Image.Resampling.NEAREST).save(
            target / "masks" / f"{images[at].stem}.png"
        )
    return target


def make(folder: Path, photographs: Path, weights: Path, k: list[int]) -> Path:
    """A project over these photographs, with heat maps of the images' own size."""
    project = make_project(
        folder,
        photographs,
        backbone="squeezenet1_1",
        weights=weights,
        layers=["features.12"],
        k=k,
        stability_runs=0,
        long_side=0,
    )
    params = read_params(project)
    for stage in STAGES[:4]:
        execute(stage, params[stage.name], project, RESOURCES)
    return project


def tasks_of(project: Path, refiner: Refiner) -> LayerTasks:
    """A project's maps, for a refiner."""
    heatmaps = open_artifact(project / "artifacts/heatmaps.zarr")
    index = ImageIndex.open(project / "artifacts/index", project)
    maps = ConceptMaps(heatmaps, heatmaps.layers[0])
    return LayerTasks.of_all(refiner, index, maps, [0] * len(maps.maps))


RESOURCES = make_resources("auto", 0, "auto", "")


def per_second(project: Path, refiner: Refiner) -> float:
    """Images refined per second, from the first to the last."""
    one = tasks_of(project, refiner)
    rows = refined(one, entry_sets(one.maps.artifact)[0], RESOURCES)
    next(rows)
    start = time.perf_counter()
    count = sum(1 for _ in rows)
    return count / (time.perf_counter() - start)


def object_iou(project: Path, refiner: Refiner) -> float:
    """IoU of k = 1 with the object, per cent, q >= 0.5."""
    one = tasks_of(project, refiner)
    entries = entry_sets(one.maps.artifact)[0]
    counts = RegionCounts(1)
    for entry, rows in zip(entries, refined(one, entries, RESOURCES), strict=True):
        h, w = (int(side) for side in one.maps.maps.grid_hw[entry])
        name = one.index.names[int(one.maps.maps.image_ids[entry])]
        truth = one.index.dataset.ground_truth(name, "")
        assert truth.whole is not None
        packed = pack_masks(binarise(rows, 0.5).reshape(h, w, 1))
        sized = resize_masks(packed, truth.whole.shape)
        counts.add_packed(sized, {"object": truth.whole})
    return float(100 * counts.iou({"object"})[0])


def stage_row(project: Path, label: str, **options: str) -> dict[str, Any]:
    """`dff refine` as a whole: seconds, peak RSS, and what it stored."""
    arguments = [text for key, value in options.items() for text in (f"--{key}", value)]
    measured = run_dff(project, "refine", *arguments)
    maps = ConceptMaps(open_artifact(project / "artifacts/refined.zarr"), "features.12")
    values = len(maps.maps) * len(maps.columns)
    return {
        "stage": label,
        "images": len(maps.maps),
        "columns": len(maps.columns),
        "seconds": measured["seconds"],
        "peak RSS, MiB": measured["peak_mib"],
        "refined map": maps.maps.nbytes_stored / values,
        "refined mask": maps.bits.nbytes_stored / values,
    }


def main() -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    weights = options.weights.resolve()
    rows: list[dict[str, Any]] = []
    stages: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for name in SETS:
            source = resize_collection(options.photographs / name, home / name, options.images)
            timed = make(home / f"{name}-k4", source, weights, [4])
            scored = make(home / f"{name}-k1", source, weights, [1])
            rates: dict[str, list[float]] = {label: [] for label in COMPARED}
            for _ in range(options.runs):
                for label, refiner in COMPARED.items():
                    rates[label].append(per_second(timed, refiner))
            slowest = statistics.median(rates["pydensecrf"])
            for label, refiner in COMPARED.items():
                rate = statistics.median(rates[label])
                rows.append(
                    {
                        "collection": name,
                        "refiner": label,
                        "images/s": rate,
                        "ms/image": 1000 / rate,
                        "times pydensecrf": rate / slowest,
                        "object IoU, k = 1": object_iou(scored, refiner),
                        "all": rates[label],
                    }
                )
            if name == "weizmann":
                stages.append(stage_row(timed, "k = 4"))
                stages.append(stage_row(timed, "k = 4, --memory 1GiB", memory="1GiB"))
                many = make(home / "many", source, weights, [2, 4, 6, 8])
                stages.append(stage_row(many, "k = 2, 4, 6, 8"))
    report(
        "refine",
        "Refinement at 375 x 500, k = 4, all cores",
        rows,
        images=options.images,
        runs=options.runs,
        device=RESOURCES.torch_device(),
    )
    report("refine_stage", "dff refine, maps of 375 x 500", stages)


if __name__ == "__main__":
    main()
