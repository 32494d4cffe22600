"""Does an image cost the same among 1 000 as among 40 000, in every stage?

    python benchmarks/flat.py [--images 1000 5000 20000] [--size 112]

Small made photographs (of 500 drawings, no two files alike), SqueezeNet 1.1 with random weights,
all default params but the size. Each stage runs in a process of its own. What an image costs is
the processor time between one collection and the next larger one, divided by the images between, so
that start-up is in none of it; the last column is the last of these costs over the first. Writes
results/flat.json.
"""

import argparse
import shutil
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # the project, not this folder

from benchmarks.common import draw_photographs, make_project, report, run_dff
from pipeline.registry import STAGES

DRAWINGS = 500


def photographs(folder: Path, drawings: Path, count: int) -> Path:
    """So many files, each with a few bytes of its own behind the end of its image."""
    folder.mkdir()
    contents = [path.read_bytes() for path in sorted(drawings.iterdir())]
    for number in range(count):
        own = number.to_bytes(4, "little")
        (folder / f"{number:06d}.jpg").write_bytes(contents[number % len(contents)] + own)
    return folder


def one_size(home: Path, drawings: Path, count: int, size: int) -> dict[str, dict[str, float]]:
    """What each stage takes with so many photographs."""
    home.mkdir()
    project = make_project(
        home / "project",
        photographs(home / "photographs", drawings, count),
        backbone="squeezenet1_1",
        weights="random:0",
        size=size,
    )
    found = {}
    for stage in STAGES:
        if stage.name == "index":
            shutil.rmtree(project / stage.writes)
        found[stage.name] = run_dff(project, stage.name)
        print(f"{count} {stage.name}: {found[stage.name]['seconds']:.1f} s", file=sys.stderr)
    shutil.rmtree(home)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 5000, 20000])
    parser.add_argument("--size", type=int, default=112)
    chosen = parser.parse_args()
    counts = sorted(chosen.images)
    with tempfile.TemporaryDirectory() as temporary:
        drawings = draw_photographs(Path(temporary) / "drawings", DRAWINGS, (160, 120))
        runs = [
            one_size(Path(temporary) / str(count), drawings, count, chosen.size) for count in counts
        ]
    rows: list[dict[str, Any]] = []
    for stage in runs[0]:
        row: dict[str, Any] = {"stage": stage}
        costs = []
        for (fewer, more), (before, after) in zip(pairwise(counts), pairwise(runs), strict=True):
            spent = after[stage]["cpu_seconds"] - before[stage]["cpu_seconds"]
            costs.append(1000 * spent / (more - fewer))
            row[f"ms {fewer} to {more}"] = costs[-1]
        row |= {
            f"peak MiB {count}": run[stage]["peak_mib"]
            for count, run in zip(counts, runs, strict=True)
        }
        rows.append(row | {"last over first": costs[-1] / costs[0]})
    report("flat", "Processor time an image, and peak RSS", rows, images=counts, size=chosen.size)


if __name__ == "__main__":
    main()
