"""Photographs and annotations as people's folders really have them: small builders."""

import base64
import io
import json
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = (24, 36)  # height, width, of every photograph as it is seen
# An object that no turn or flip leaves where it is.
OBJECT = np.zeros(SIZE, dtype=bool)
OBJECT[3:15, 5:9] = OBJECT[11:15, 5:26] = True
BOX = (3, 5, 15, 26)  # around it
_UNTURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
Build = Callable[[Path], object]


def stored(seen: np.ndarray, orientation: int) -> np.ndarray:
    """What a file must store so that a viewer which obeys the orientation shows `seen`."""
    image = Image.fromarray(seen.astype(np.uint8))
    return np.asarray(image.transpose(_UNTURNED[orientation]) if orientation > 1 else image)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    if orientation > 1:
        tags[0x0112] = orientation
    return tags


def photo(path: Path, *, kind: str = "", orientation: int = 1, seed: int = 0) -> Path:
    """A noisy photograph; the format follows from the suffix unless it is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seen = np.random.default_rng(seed).integers(0, 255, (*SIZE, 3))
    kind = kind or Image.registered_extensions()[path.suffix.lower()]
    Image.fromarray(stored(seen, orientation)).save(path, kind, exif=exif(orientation))
    return path


def save(path: Path, values: Any, mode: str = "", **options: Any) -> Path:
    """An annotation image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(values).astype(np.uint8), mode=None)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def mask(path: Path, seen: np.ndarray = OBJECT, *, tag: int = 1, turned: int = 1) -> Path:
    """A black and white mask; `turned` is how its pixels lie, `tag` what it says of that."""
    options = {"exif": exif(tag)} if tag > 1 else {}
    return save(path, 255 * stored(seen, turned), **options)


def text(path: Path, content: str | bytes = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def shapes(path: Path, *drawn: dict[str, Any], **facts: Any) -> Path:
    """A file as labelme writes it."""
    whole = {"imageHeight": SIZE[0], "imageWidth": SIZE[1], "shapes": list(drawn)} | facts
    return text(path, json.dumps(whole))


def shape(points: Any, kind: str = "polygon", label: Any = "arm", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind} | more


def bitmap(seen: np.ndarray = OBJECT, box: tuple[int, int, int, int] = BOX) -> dict[str, Any]:
    """labelme's mask of the object."""
    top, left, bottom, right = box
    buffer = io.BytesIO()
    Image.fromarray(seen[top:bottom, left:right].astype(np.uint8)).save(buffer, "PNG")
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return shape([[left, top], [right - 1, bottom - 1]], "mask", mask=encoded)


def chunk(kind: bytes, content: bytes, *, broken: bool = False) -> bytes:
    """A chunk of a PNG."""
    check = zlib.crc32(kind + content) ^ (1 if broken else 0)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def with_chunk(path: Path, added: bytes, *, behind: bool = False) -> Path:
    """Put a chunk into a PNG, before its pixels or behind them."""
    data = path.read_bytes()
    at = data.rindex(b"IEND") - 4 if behind else data.index(b"IDAT") - 4
    path.write_bytes(data[:at] + added + data[at:])
    return path


def with_segment(path: Path, marker: int, content: bytes) -> Path:
    """Put a segment behind the first two bytes of a JPEG."""
    data = path.read_bytes()
    segment = bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content
    path.write_bytes(data[:2] + segment + data[2:])
    return path


def pipe(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    return path


def unix_socket(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    before = Path.cwd()
    os.chdir(path.parent)  # an address may not be long
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(before)


def link(path: Path, target: str | Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return path


XML = (
    "<object><name>{name}</name>{flags}<bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>"
    "<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
)


def xml_box(box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """As VOC has boxes: left, top, right, bottom, 1-based and inclusive."""
    top, left, bottom, right = box
    return left + 1, top + 1, right, bottom


def box_of(drawn: np.ndarray) -> tuple[int, int, int, int]:
    """The box around a mask."""
    down, across = np.nonzero(drawn)
    return int(down.min()), int(across.min()), int(down.max()) + 1, int(across.max()) + 1


def voc(
    root: Path,
    image_id: str = "a",
    *,
    orientation: int = 1,
    box: tuple[int, int, int, int] = BOX,
    size: tuple[int, int] | None = SIZE,
    name: str = "cow",
    flags: str = "",
    listed: str | bytes | None = None,
    file: str = "",
) -> Path:
    """One image of a VOC year: a cow in a box."""
    photo(root / "JPEGImages" / (file or f"{image_id}.jpg"), orientation=orientation)
    said = f"<size><width>{size[1]}</width><height>{size[0]}</height></size>" if size else ""
    objects = XML.format(name=name, flags=flags, box=xml_box(box))
    text(root / "Annotations" / f"{image_id}.xml", f"<annotation>{said}{objects}</annotation>")
    lists = root / "ImageSets" / "Main" / "cow_trainval.txt"
    content = listed if listed is not None else f"{image_id} 1\n"
    before = lists.read_bytes() if lists.exists() else b""
    text(lists, before + (content.encode() if isinstance(content, str) else content))
    return root
