"""A plain folder of photographs, with optional masks and parts, each of its image's size.

Images: ``<root>/images/[<set>/]*`` or, without an ``images`` folder, ``<root>/[<set>/]*``; anything
deeper belongs to the set of its first folder, and images in no folder form a set named after the
root. An image ``<set>/<stem>.jpg`` may have

- ``<root>/masks/<set>/<stem>.png``: non-zero pixels are the object;
- parts in ``<root>/parts/<set>/``: a folder ``<stem>/`` with one ``<part>.png`` each; or one
  indexed ``<stem>.png`` with the names of its values in ``parts.json`` (beside it or in
  ``<root>/parts``); or polygons and rectangles in ``<stem>.json``, as labelme writes them.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.draw import polygon2mask

from stages.datasets.dataset import DatasetError, FoundImage, GroundTruth, Mask
from stages.images.decode import ImageError, read_header

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .png .webp .bmp .gif .tif .tiff .ppm .pgm .pbm .jp2 .avif".split()  # noqa: SIM905
)
LEGEND = "parts.json"
GROUND = ("background", "_background_")  # of labelme, too: no parts of an object
FAR = 1e6  # pixels; beyond it a coordinate is damage
_Kind = Literal["mask", "part", "indexed", "legend", "polygons"]


@dataclass(frozen=True)
class FolderDataset:
    """Reader of a plain folder; see the module's docstring for the layout.

    Parameters
    ----------
    root : Path
    masks, parts : str
        Names of the annotation folders below the root.
    whole : str
        A part of this name is the whole object rather than a part.
    """

    root: Path
    masks: str = "masks"
    parts: str = "parts"
    whole: str = ""

    @property
    def options(self) -> dict[str, Any]:
        """See `Dataset.options`."""
        return {"masks": self.masks, "parts": self.parts, "whole": self.whole}

    @property
    def _image_root(self) -> Path:
        images = self.root / "images"
        return images if images.is_dir() else self.root

    def images(self) -> Iterator[FoundImage]:
        """See `Dataset.images`."""
        if not self.root.is_dir():
            raise DatasetError(
                f"{self.root}: no such folder; set index.root in params.yaml to your photographs"
            )
        names, others = [], 0
        for path in self._walk():
            if path.suffix.lower() in IMAGE_SUFFIXES:
                names.append(path.relative_to(self.root).as_posix())
            else:
                others += 1
        if not names:
            held = f"it holds {others} other files" if others else "it is empty"
            raise DatasetError(f"{self._image_root}: no images found; {held}")
        for name in sorted(names):
            try:
                name.encode()
            except UnicodeEncodeError as error:
                raise DatasetError(f"{self.root}: rename {name!a}, it is not UTF-8") from error
            yield FoundImage(name, (self._set_of(name),))

    def _walk(self) -> Iterator[Path]:
        """Files below the image root; links are followed, but into no folder twice."""
        seen: set[str] = set()
        skipped = {self.root / name for name in (self.masks, self.parts) if name}
        for folder, folders, files in os.walk(
            self._image_root, onerror=_refuse_unlisted, followlinks=True
        ):
            real = os.path.realpath(folder)
            if real in seen or Path(folder) in skipped:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            yield from (Path(folder, name) for name in files if not name.startswith("."))

    def _relative(self, name: str) -> PurePosixPath:
        """An image's path below the image root: where its annotations lie in their folders."""
        path = PurePosixPath(name)
        return path.relative_to("images") if self._image_root != self.root else path

    def _set_of(self, name: str) -> str:
        parts = self._relative(name).parts
        return parts[0] if len(parts) > 1 else self.root.resolve().name or "images"

    def image_path(self, name: str) -> Path:
        """See `Dataset.image_path`."""
        return self.root / name

    def annotation_files(self, name: str) -> list[Path]:
        """See `Dataset.annotation_files`."""
        return [path for _, path in self._annotations(name)]

    def _annotations(self, name: str) -> Iterator[tuple[_Kind, Path]]:
        """The annotation files of an image, and what each of them is."""
        stem = self._relative(name).with_suffix("")
        if self.masks:
            mask = self.root / self.masks / f"{stem}.png"
            if mask.is_file():
                yield "mask", mask
        if not self.parts:
            return
        folder, indexed, polygons = (
            self.root / self.parts / f"{stem}{suffix}" for suffix in ("", ".png", ".json")
        )
        if folder.is_dir():
            for path in sorted(folder.glob("*.png")):
                if not path.name.startswith("."):
                    yield "part", path
        if indexed.is_file():
            yield "indexed", indexed
            legend = self._legend_of(indexed)
            if legend.is_file():
                yield "legend", legend
        if polygons.is_file() and polygons.name != LEGEND:
            yield "polygons", polygons

    def _legend_of(self, indexed: Path) -> Path:
        beside = indexed.parent / LEGEND
        return beside if beside.is_file() else self.root / self.parts / LEGEND

    def ground_truth(self, name: str, image_set: str) -> GroundTruth:
        """See `Dataset.ground_truth`; masks must have the image's size."""
        annotations = list(self._annotations(name))
        if not annotations:
            return GroundTruth()
        size = image_size(self.image_path(name))
        whole: Mask | None = None
        parts: dict[str, Mask] = {}
        for kind, path in annotations:
            if kind == "mask":
                whole = _read_mask(path, size)
            elif kind == "part":
                parts[path.stem] = _read_mask(path, size)
            elif kind == "indexed":
                parts |= _read_legend(path, self._legend_of(path), size)
            elif kind == "polygons":
                parts |= _read_polygons(path, size)
        if self.whole and self.whole in parts:
            named = parts.pop(self.whole)
            whole = named if whole is None else whole
        if whole is None:
            shown = [mask for part, mask in parts.items() if part not in GROUND]
            whole = np.logical_or.reduce([np.zeros(size, bool), *shown])
        return GroundTruth(whole, parts)


def _refuse_unlisted(error: OSError) -> None:
    raise DatasetError(f"{error.filename}: cannot be listed ({error.strerror})") from error


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) of an image, which its annotations must have too.

    Raises
    ------
    DatasetError
        When the image cannot be read.
    """
    try:
        return read_header(path)
    except (OSError, ImageError) as error:
        raise DatasetError(f"{path}: its size cannot be read ({error})") from error


def _read_stored(path: Path, size: tuple[int, int]) -> NDArray[Any]:
    """An annotation image's stored values: ``[h, w]``, or ``[h, w, 3]`` when it is in colour."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            single = image.mode in {"1", "L", "P", "I", "F"} or image.mode.startswith("I;16")
            values = np.asarray(image if single else image.convert("RGB"))
    except Exception as error:  # damaged files make Pillow raise nearly anything
        raise DatasetError(f"{path}: not a readable annotation image ({error})") from error
    _refuse_size(path, values.shape[:2], size)
    return values


def _refuse_size(path: Path, found: tuple[int, ...], size: tuple[int, int]) -> None:
    if found != size:
        raise DatasetError(
            f"{path}: annotates {found[1]}x{found[0]} pixels, the image has {size[1]}x{size[0]}"
        )


def _read_mask(path: Path, size: tuple[int, int]) -> Mask:
    """Where an annotation image is not black."""
    mask: Mask = _read_stored(path, size) != 0
    if mask.ndim == 3:
        mask = np.logical_or.reduce(mask, axis=2)
    return mask


def read_indexed(path: Path, size: tuple[int, int]) -> NDArray[Any]:
    """The values of an indexed or grey PNG, ``[h, w]``, with the size that its image has.

    Raises
    ------
    DatasetError
        When the file is damaged, in colour, or of another size.
    """
    values = _read_stored(path, size)
    if values.ndim == 3:
        raise DatasetError(f"{path}: stores colours, not one value per pixel")
    return values


def _read_legend(path: Path, legend: Path, size: tuple[int, int]) -> dict[str, Mask]:
    """Parts of an indexed image by the names that ``parts.json`` gives its values.

    Values of one name are united. 0 is the background, whatever it is called.
    """
    values = read_indexed(path, size)
    try:
        content = json.loads(legend.read_bytes())
        names = [(int(value), str(name)) for value, name in content.items()]
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise DatasetError(
            f'{legend}: must name the values of {path.name}, like {{"1": "head"}} ({error})'
        ) from error
    parts: dict[str, Mask] = {}
    for value, name in names:
        mask = values == value
        if value != 0 and mask.any():
            parts[name] = parts[name] | mask if name in parts else mask
    return parts


def _read_polygons(path: Path, size: tuple[int, int]) -> dict[str, Mask]:
    """Parts as polygons: labelme's ``shapes`` or plain ``polygons`` of ``points_xy``.

    Polygons of one label are united.
    """
    try:
        content = json.loads(path.read_bytes())
        if "shapes" in content:
            found = int(content["imageHeight"]), int(content["imageWidth"])
            outlines = [(str(one["label"]), _outline(one)) for one in content["shapes"]]
        else:
            found = int(content["size_wh"][1]), int(content["size_wh"][0])
            shapes = [one | {"points": one["points_xy"]} for one in content["polygons"]]
            outlines = [(str(one["label"]), _outline(one)) for one in shapes]
    except Exception as error:  # any JSON at all may be in there
        raise DatasetError(f"{path}: not readable polygons ({error!r})") from error
    _refuse_size(path, found, size)
    parts: dict[str, Mask] = {}
    for label, outline in outlines:
        drawn: Mask = polygon2mask(size, outline[:, ::-1])
        parts[label] = parts[label] | drawn if label in parts else drawn
    return parts


def _outline(shape: dict[str, Any]) -> NDArray[np.float64]:
    """A shape's corners as (x, y), ``[n, 2]``; labelme gives two opposite ones of a rectangle."""
    kind = shape.get("shape_type") or "polygon"
    points = np.asarray(shape["points"], dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not (np.abs(points) < FAR).all():
        raise ValueError("points must be pairs of pixel coordinates")
    if kind == "rectangle":
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        points = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    elif kind != "polygon":
        raise ValueError(f"a {kind} is neither polygon nor rectangle")
    if len(points) < 3:
        raise ValueError("a polygon needs three points")
    return points


def icoseg(root: Path, **options: Any) -> FolderDataset:
    """iCoseg: the plain folder's layout, with the masks in ``ground_truth/<group>/``."""
    return FolderDataset(root, **{"masks": "ground_truth"} | options)
