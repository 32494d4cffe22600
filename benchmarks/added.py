"""A hundred photographs more, from the index to the report, against a run from nothing.

    python benchmarks/added.py --photographs DIR --weights FILE [--images 10000] [--more 100]

The photographs are crops of real ones, mirrored or not; those that come later lie scattered among
the others. Every stage runs in a process of its own, the start of Python included; before the
second run `dff pin` keeps the factors. SqueezeNet 1.1 at 224 pixels, one image set, k = 1 to 4.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # the project, not this folder

import os

import numpy as np
from PIL import Image

from benchmarks.common import bring_back, make_project, report, run_dff, set_aside
from pipeline.registry import STAGES as PIPELINE

STAGES = tuple(stage.name for stage in PIPELINE)


def crops(source: Path, folder: Path, count: int) -> Path:
    """Parts of real photographs, each of three quarters of the sides."""
    folder.mkdir(parents=True)
    files = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".jpg", ".bmp"))
    rng = np.random.default_rng(0)
    for number in range(count):
        image = Image.open(files[number % len(files)]).convert("RGB")
        width, height = (3 * side // 4 for side in image.size)
        left, top = (int(rng.integers(0, side // 4 + 1)) for side in image.size)
        part = image.crop((left, top, left + width, top + height))
        if rng.random() < 0.5:
            part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        part.save(folder / f"{number:06d}.jpg", quality=90)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--more", type=int, default=100)
    parser.add_argument("--freeze", action="store_true")
    chosen = parser.parse_args()
    os.environ["DFF_KEEP"] = "3"
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        photographs = crops(chosen.photographs, home / "photographs", chosen.images + chosen.more)
        added = set_aside(photographs, chosen.more, aside := home / "aside")
        project = make_project(
            home / "project",
            photographs,
            backbone="squeezenet1_1",
            weights=chosen.weights.resolve(),
            layers=["features.12"],
        )
        first = {stage: run_dff(project, stage) for stage in STAGES}
        run_dff(project, "pin", *(["--freeze"] if chosen.freeze else []))
        bring_back(added, aside)
        then = {stage: run_dff(project, stage) for stage in STAGES}
    columns = {
        f"{chosen.images} from nothing, s": (first, "seconds"),
        f"{chosen.more} more, s": (then, "seconds"),
        "of processors, s": (first, "cpu_seconds"),
        "and then": (then, "cpu_seconds"),
    }
    rows = [
        {"stage": stage, **{name: run[stage][what] for name, (run, what) in columns.items()}}
        for stage in STAGES
    ]
    rows.append({"stage": "all", **{name: sum(row[name] for row in rows) for name in columns}})
    for row in rows:
        before, after, cpu, cpu_after = (row[name] for name in columns)
        row |= {"ratio": after / before, "of processors' time": cpu_after / cpu}
    for row, stage in zip(rows, STAGES, strict=False):
        row["peak RSS, MiB"] = then[stage]["peak_mib"]
    rows[-1]["peak RSS, MiB"] = max(one["peak_mib"] for one in then.values())
    report("added", "Photographs that come later", rows, freeze=chosen.freeze)


if __name__ == "__main__":
    main()
