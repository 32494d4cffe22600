"""What an image set more costs in each stage, of collections of very many small ones.

    python benchmarks/many_sets.py --photographs DIR --weights FILE [--sets 100 400] [--images 3]

The sets are tiny crops of real photographs (64 x 48 pixels), through SqueezeNet 1.1 at 64 pixels;
k = 1 to 4 with everything that is on by default, but maps of 64 pixels that are not refined, for
these cost by the image. Stages run in one process, one after the other, once before they are
measured; figures are processor time, which neighbours on the machine stretch, too.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # the project, not this folder

import numpy as np
from PIL import Image

from benchmarks.common import report
from stages.evaluate.params import EvaluateParams
from stages.evaluate.stage import EVALUATE
from stages.explain.params import ExplainParams
from stages.explain.stage import EXPLAIN
from stages.extract.params import ExtractParams
from stages.extract.stage import EXTRACT
from stages.factorize.params import FactorizeParams
from stages.factorize.stage import FACTORIZE
from stages.frame.execute import execute
from stages.frame.resources import Resources
from stages.heatmaps.params import HeatmapsParams
from stages.heatmaps.stage import HEATMAPS
from stages.index.params import IndexParams
from stages.index.stage import INDEX
from stages.refine.params import RefineParams
from stages.refine.refiners.none import Unrefined
from stages.refine.stage import REFINE
from stages.report.params import ReportParams
from stages.report.stage import REPORT

SIDE, WIDTH, HEIGHT = 64, 64, 48


def tiny_sets(photographs: Path, folder: Path, sets: int, images: int) -> Path:
    """Folders of crops: those of a set are of neighbouring photographs."""
    rng = np.random.default_rng(0)
    files = sorted(path for path in photographs.rglob("*") if path.suffix.lower() == ".jpg")
    small = [Image.open(path).convert("RGB").resize((128, 96)) for path in files[:200]]
    for number in range(sets):
        mine = folder / f"{number:05d}"
        mine.mkdir(parents=True)
        for i in range(images):
            left, top = (int(rng.integers(0, side)) for side in (128 - WIDTH, 96 - HEIGHT))
            image = small[(number + i) % len(small)]
            image.crop((left, top, left + WIDTH, top + HEIGHT)).save(mine / f"{i:02d}.jpg")
    return folder


def seconds_of_stages(root: Path, project: Path, weights: str) -> dict[str, float]:
    """Processor time of each stage."""
    project.mkdir()
    steps: list[tuple[Any, Any]] = [
        (INDEX, IndexParams(dataset="folder", root=str(root))),
        (EXTRACT, ExtractParams("squeezenet1_1", weights, ("features.12",), size=SIDE)),
        (FACTORIZE, FactorizeParams((1, 2, 3, 4), (0,))),
        (HEATMAPS, HeatmapsParams(long_side=SIDE)),
        (REFINE, RefineParams(method="none", options=Unrefined())),
        (EVALUATE, EvaluateParams()),
        (EXPLAIN, ExplainParams()),
        (REPORT, ReportParams()),
    ]
    resources = Resources(workers=2)
    return {
        stage.name: _cpu(partial(execute, stage, params, project, resources))
        for stage, params in steps
    }


def _cpu(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--sets", type=int, nargs="+", default=[100, 400])
    parser.add_argument("--images", type=int, default=3)
    chosen = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        for count in (10, *chosen.sets):  # the first compiles and loads
            root = tiny_sets(chosen.photographs, home / f"{count}", count, chosen.images)
            found = seconds_of_stages(root, home / f"project {count}", chosen.weights)
            if count != 10:
                each = {name: round(1000 * one / count, 2) for name, one in found.items()}
                results.append({"sets": count, **each})
    title = f"milliseconds of a processor per image set of {chosen.images} tiny images"
    report("many_sets", title, results)


if __name__ == "__main__":
    main()
