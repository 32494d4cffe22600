"""A collection of VOC 2007's size, from index to report within 2 GiB under --memory 1GiB.

    python benchmarks/voc_scale.py [--images 5011] [--memory 1GiB]

Draws images of 500 x 375 in the devkit's layout: 20 classes, 1 to 3 of them on an image and a
person on four of ten, so that the image sets overlap; boxes on all, SegmentationClass on one of
eight. Each line is one stage in a process of its own, with its peak RSS as the kernel counts it.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # the project, not this folder

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from benchmarks.common import report, run_dff
from pipeline.init import write_params
from pipeline.registry import STAGES
from stages.datasets.voc import CLASSES

SIZE = (500, 375)
PERSON = CLASSES.index("person")
OBJECT = (
    "<object><name>{}</name><truncated>{}</truncated><difficult>{}</difficult><bndbox>"
    "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def draw_devkit(root: Path, count: int) -> Path:
    """The collection; the same one for the same number of images."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main", "SegmentationClass"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    palette = [tuple(int(v) for v in rng.integers(60, 256, 3)) for _ in CLASSES]
    lists: list[list[str]] = [[] for _ in CLASSES]
    for number in range(count):
        image_id = f"{number:06d}"
        shown = set(rng.choice(len(CLASSES), rng.integers(1, 4), replace=False).tolist())
        shown = shown | {PERSON} if rng.random() < 0.4 else shown - {PERSON} or {number % 14}
        _draw_one(root, rng, image_id, sorted(shown), palette, segmented=number % 8 == 0)
        for index, lines in enumerate(lists):
            lines.append(f"{image_id} {'1' if index in shown else '-1':>2}\n")
    for name, lines in zip(CLASSES, lists, strict=True):
        (root / "ImageSets/Main" / f"{name}_trainval.txt").write_text("".join(lines))
    return root


def _draw_one(
    root: Path, rng: Any, image_id: str, shown: list[int], palette: list[Any], *, segmented: bool
) -> None:
    ground = rng.integers(0, 200, (12, 16, 3)).astype(np.uint8)
    image = Image.fromarray(ground).resize(SIZE, Image.Resampling.BICUBIC)
    labels = Image.new("L", SIZE)
    objects = []
    for index in shown:
        width, height = (int(v) for v in rng.integers(60, 260, 2))
        left, top = int(rng.integers(0, SIZE[0] - width)), int(rng.integers(0, SIZE[1] - height))
        box = (left, top, left + width - 1, top + height - 1)
        for canvas, ink in ((image, palette[index]), (labels, index + 1)):
            pen = ImageDraw.Draw(canvas)
            (pen.ellipse if index % 2 else pen.rectangle)(box, fill=ink)
        marked = (int(rng.random() < 0.2), int(rng.random() < 0.05))
        objects.append(OBJECT.format(CLASSES[index], *marked, *(side + 1 for side in box)))
    image.save(root / "JPEGImages" / f"{image_id}.jpg", quality=90)
    text = f"<annotation>{''.join(objects)}</annotation>"
    (root / "Annotations" / f"{image_id}.xml").write_text(text)
    if segmented:
        labels.save(root / "SegmentationClass" / f"{image_id}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5011)
    parser.add_argument("--memory", default="1GiB")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        root = draw_devkit(home / "VOCdevkit/VOC2007", chosen.images)
        project = home / "project"
        project.mkdir()
        write_params(
            project, "voc2007", root, backbone="demo", weights="bundled", layers=["conv4_2"]
        )
        rows = []
        for stage in STAGES:
            used = run_dff(project, stage.name, "--memory", chosen.memory)
            rows.append(
                {
                    "stage": stage.name,
                    "seconds": used["seconds"],
                    "peak RSS, MiB": used["peak_mib"],
                    "within 2 GiB": "yes" if used["peak_mib"] <= 2048 else "NO",
                }
            )
            print(rows[-1], file=sys.stderr, flush=True)
        seconds = {row["stage"]: row["seconds"] for row in rows}
        members = pd.read_parquet(project / "artifacts/index/sets.parquet")
        sizes = members.groupby("set").size()
        report(
            "voc_scale",
            f"{chosen.images} images in VOC's layout, --memory {chosen.memory}, k = 1",
            rows,
            images=chosen.images,
            memory=chosen.memory,
            sets={str(name): int(size) for name, size in sizes.items()},
            evaluate_over_refine=seconds["evaluate"] / seconds["refine"],
        )


if __name__ == "__main__":
    main()
