"""Parts that are drawn: labelme's shapes, and plain polygons."""

import base64
import json
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.datasets.annotation_images import check_size, placed
from stages.datasets.dataset import DatasetError, Mask
from stages.images.decode import read_header, read_stored
from stages.images.orientation import Frame, Size

FAR = 1e6  # pixels; beyond it a coordinate is damage
WITHOUT_AREA = ("line", "linestrip", "point", "points")


def read_polygons(path: Path, frame: Frame) -> tuple[dict[str, Mask], tuple[str, ...]]:
    """Parts as labelme's ``shapes`` or plain ``polygons`` of ``points_xy``, as seen.

    Shapes of one label are united. Those that have no area, or cannot be drawn, are left out, and
    counted in the notes that are given with the parts.

    Raises
    ------
    DatasetError
        When it is no such file, of another size, or none of its shapes can be drawn.
    """
    try:
        content = json.loads(path.read_bytes())
        if "shapes" in content:
            size = _size(content.get("imageHeight"), content.get("imageWidth"), frame)
            shapes = list(content["shapes"] or ())
        else:
            size = _size(content["size_wh"][1], content["size_wh"][0], frame)
            shapes = [one | {"points": one["points_xy"]} for one in content["polygons"] or ()]
    except Exception as error:  # any JSON at all may be in there
        raise DatasetError(f"{path}: not readable polygons ({error!r})") from error
    check_size(path, size, frame)
    parts: dict[str, Mask] = {}
    skipped: Counter[str] = Counter()
    for shape in shapes:
        try:
            label, drawn = _label(shape), _drawn(shape, size)
        except Exception as error:
            skipped[str(error) if isinstance(error, ValueError) else repr(error)] += 1
            continue
        parts[label] = parts[label] | drawn if label in parts else drawn
    reasons = ", ".join(f"{count} x {reason}" for reason, count in sorted(skipped.items()))
    if skipped and not parts:
        raise DatasetError(f"{path}: not readable polygons (none can be drawn: {reasons})")
    notes = (f"{path}: {skipped.total()} shapes left out: {reasons}",) if skipped else ()
    return {label: placed(path, mask, frame) for label, mask in parts.items()}, notes


def _size(height: Any, width: Any, frame: Frame) -> Size:
    """(height, width) as the file has them; labelme may leave them out, and draws on what it shows.

    Raises
    ------
    ValueError, TypeError, OverflowError
    """
    return frame.seen if height is None and width is None else (int(height), int(width))


def _label(shape: dict[str, Any]) -> str:
    """A shape's label; '' where nobody gave it one."""
    label = shape["label"]
    return "" if label is None else unicodedata.normalize("NFC", str(label))


def _drawn(shape: dict[str, Any], size: Size) -> Mask:
    """The pixels of a shape.

    Raises
    ------
    ValueError
        It has no area, or nobody knows how it is drawn; the message is for a count.
    """
    kind = shape.get("shape_type") or "polygon"
    if kind in WITHOUT_AREA:
        raise ValueError(f"{kind} (it has no area)")
    points = np.asarray(shape["points"], dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not (np.abs(points) < FAR).all():
        raise ValueError("points that are not pairs of pixel coordinates")
    if kind == "circle":
        return _circle(points, size)
    if kind == "mask":
        return _bitmap(shape["mask"], points, size)
    if kind == "rectangle":
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        points = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    elif kind not in ("polygon", "rotation"):
        raise ValueError(f"{kind} (not a shape that is known)")
    if len(points) < 3:
        raise ValueError("polygon of less than three points")
    from skimage.draw import polygon2mask  # here: few collections have polygons

    drawn: Mask = polygon2mask(size, points[:, ::-1])
    return drawn


def _circle(points: NDArray[np.float64], size: Size) -> Mask:
    """labelme's circle: its centre, and a point on it."""
    if len(points) != 2:
        raise ValueError("circle that is not two points")
    (x, y), edge = points
    radius = float(np.hypot(*(edge - points[0])))
    drawn = np.zeros(size, dtype=bool)
    top, left = (max(int(at - radius), 0) for at in (y, x))
    inside = drawn[top : max(int(y + radius) + 1, 0), left : max(int(x + radius) + 1, 0)]
    down, across = np.ogrid[top : top + inside.shape[0], left : left + inside.shape[1]]
    inside[:] = (across - x) ** 2 + (down - y) ** 2 <= radius**2
    return drawn


def _bitmap(encoded: str, points: NDArray[np.float64], size: Size) -> Mask:
    """labelme's mask: a PNG in Base64 that lies in a box, from its first to its last pixel."""
    if len(points) != 2:
        raise ValueError("mask that is not in a box of two points")
    left, top = np.rint(points.min(axis=0)).astype(int)
    right, bottom = np.rint(points.max(axis=0)).astype(int) + 1
    try:
        content = base64.b64decode(encoded, validate=True)
        fits = read_header(content) == (bottom - top, right - left)
        values = read_stored(content)[0] if fits else np.zeros((0, 0))
    except (TypeError, ValueError) as error:
        raise ValueError("mask that is not a PNG in Base64") from error
    if not fits:
        raise ValueError("mask of another size than its box")
    pixels = values != 0 if values.ndim == 2 else (values != 0).any(axis=2)
    drawn = np.zeros(size, dtype=bool)
    inside = drawn[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    cut = pixels[max(-top, 0) :, max(-left, 0) :]
    inside[:] = cut[: inside.shape[0], : inside.shape[1]]
    return drawn
