"""Make one picture of concepts, like the paper's Figure 3: images across, rows k = 1, 2, ...

    python scripts/readme_picture.py --project . --set gymnast --k 1 2 3 4 --out docs/concepts.jpg

The project folder needs the artifacts of index, factorize, heatmaps and refine.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stages.artifacts.image_index import ImageIndex
from stages.drawing.colours import Colour
from stages.drawing.overlays import heat_picture, mask_picture
from stages.frame.execute import gather_inputs
from stages.images.decode import decode_rgb
from stages.images.resize import resize_rgb
from stages.report.concepts import Concepts, open_concepts
from stages.report.opened import Opened
from stages.report.page import spread
from stages.report.pictures import Scene
from stages.report.stage import REPORT

GAP = 4
LABEL = 64
INK: Colour = (70, 68, 64)
DOT = 11


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--project", type=Path, default=Path(), help="folder with artifacts/")
    parser.add_argument("--set", default="", help="image set; the first one if not given")
    parser.add_argument("--layer", default="", help="layer; the first one if not given")
    parser.add_argument("--k", type=int, nargs="*", default=[], help="rows; all if not given")
    parser.add_argument(
        "--images", nargs="*", default=[], help="names or their ends, or positions in the set"
    )
    parser.add_argument("--count", type=int, default=6, help="images when none are named")
    parser.add_argument("--height", type=int, default=150, help="pixels of a row")
    parser.add_argument("--masks", action="store_true", help="one more row: masks of the last k")
    parser.add_argument("--limit", type=int, default=400, help="KB that the file may have")
    parser.add_argument("--out", type=Path, default=Path("docs/concepts.jpg"))
    return parser.parse_args()


def choose(opened: Opened, name: str, wanted: list[str], count: int) -> list[int]:
    """Entries of the set: those asked for, else spread evenly over it."""
    entries = [int(entry) for entry in opened.factors.sets[name]]
    if not wanted:
        return [entries[i] for i in spread(len(entries), count)]
    ids = opened.factors.image_ids
    names = [opened.factors.images[int(ids[entry])] for entry in entries]
    chosen = []
    for one in wanted:
        found = [i for i, image in enumerate(names) if image.endswith(one)]
        if not found and one.isdigit() and int(one) < len(entries):
            found = [int(one)]
        if not found:
            raise SystemExit(f"no image {one!r} in the set {name!r}")
        chosen.append(entries[found[0]])
    return chosen


def column(
    index: ImageIndex, image_id: int, entry: int, rows: list[Concepts], height: int, masks: bool
) -> list[Image.Image]:
    """One image as it is, under the factors of each row, and with masks."""
    h, w = index.size(image_id)
    photo = resize_rgb(decode_rgb(index.read(image_id)), (height, round(w * height / h)))
    scene = Scene(photo, entry)
    pictures = [Image.fromarray(photo)]
    pictures += [heat_picture(photo, scene.strength(one), one.colours) for one in rows]
    if masks:
        raw, refined = (list(scene.levels(kind, rows[-1])) for kind in ("raw", "refined"))
        pictures.append(mask_picture(photo, raw, refined, rows[-1].colours))
    return pictures


def assemble(columns: list[list[Image.Image]], rows: list[Concepts], height: int) -> Image.Image:
    """All columns side by side, each row with its k and its factors' colours."""
    width = LABEL + sum(one[0].width + GAP for one in columns) - GAP
    count = len(columns[0])
    sheet = Image.new("RGB", (width, count * (height + GAP) - GAP), "white")
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(15)
    left = LABEL
    for one in columns:
        for row, picture in enumerate(one):
            sheet.paste(picture, (left, row * (height + GAP)))
        left += one[0].width + GAP
    for row in range(count):
        middle = row * (height + GAP) + height // 2
        concepts = rows[row - 1] if 1 <= row <= len(rows) else None
        text = f"k = {concepts.k}" if concepts else "images" if row == 0 else "masks"
        pen.text((0, middle), text, INK, font, anchor="ls")
        for i, rgb in enumerate(concepts.colours if concepts else []):
            x, y = (i % 4) * (DOT + 3), middle + 7 + (i // 4) * (DOT + 3)
            pen.ellipse((x, y, x + DOT, y + DOT), fill=rgb)
    return sheet


def smallest(sheet: Image.Image, limit: int) -> bytes:
    """The sheet as JPEG, of fewer pixels until it has at most `limit` bytes."""
    scale = 1.0
    while True:
        size = round(sheet.width * scale), round(sheet.height * scale)
        scaled = sheet.resize(size, Image.Resampling.LANCZOS) if scale < 1 else sheet
        buffer = io.BytesIO()
        scaled.save(buffer, "JPEG", quality=88, subsampling=0, optimize=True)
        if buffer.tell() <= limit:
            return buffer.getvalue()
        scale *= float(np.sqrt(limit / buffer.tell())) * 0.97


def main() -> None:
    """Make the picture."""
    options = arguments()
    opened = Opened.open(gather_inputs(REPORT, options.project))
    name = options.set or next(iter(opened.factors.sets))
    if name not in opened.factors.sets:
        raise SystemExit(f"no image set {name!r}; there are {', '.join(opened.factors.sets)}")
    layer = options.layer or opened.factors.layers[0]
    concepts = open_concepts(opened, layer, name)
    rows = [concepts[k] for k in options.k or concepts if k in concepts]
    if not rows:
        raise SystemExit(f"no such k; there are {', '.join(map(str, concepts))}")
    ids = opened.factors.image_ids
    columns = [
        column(opened.index, int(ids[entry]), entry, rows, options.height, options.masks)
        for entry in choose(opened, name, options.images, options.count)
    ]
    content = smallest(assemble(columns, rows, options.height), 1024 * options.limit)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(content)
    print(f"{options.out}: {len(content) / 1024:.0f} KB")


if __name__ == "__main__":
    main()
