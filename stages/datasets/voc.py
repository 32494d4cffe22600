"""PASCAL VOC: the devkit's layout, one image set per class.

Below the year's folder: ``JPEGImages/<id>.jpg``, ``Annotations/<id>.xml`` (boxes),
``ImageSets/Main/<class>_<split>.txt`` (``<id> 1``, 0 when only difficult objects are there, or -1)
and, for some images, ``SegmentationClass/<id>.png`` (pixel value = class, 255 = void).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn
from xml.etree import ElementTree

from stages.datasets.dataset import Box, DatasetError, FoundImage, GroundTruth, Mask
from stages.datasets.folder import image_size, read_indexed

# In the order of their pixel values in SegmentationClass, from 1.
CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
EXCLUDE_RULES = ("difficult_or_truncated", "difficult", "none")


@dataclass(frozen=True)
class VocDataset:
    """Reader of a VOC year; see the module's docstring for the layout.

    Parameters
    ----------
    root : Path
        The year's folder (``VOC2007``), or a folder with only one such folder in it or in its
        ``VOCdevkit``, which then becomes the root.
    split : str
        trainval, train, val or test.
    exclude : str
        An image is left out of a class's set when all its objects of that class are marked
        difficult or truncated (``difficult_or_truncated``), or difficult (``difficult``), or
        never (``none``).
    together : bool
        Instead of one set per class, one set of all images of the split, with the objects of all
        classes: the class-agnostic protocol. Nothing is left out.

    Raises
    ------
    ValueError
        An unknown `exclude`.
    """

    root: Path
    split: str = "trainval"
    exclude: str = "difficult_or_truncated"
    together: bool = False

    def __post_init__(self) -> None:
        if self.exclude not in EXCLUDE_RULES:
            raise ValueError(
                f"exclude: {self.exclude!r} is unknown, choose {', '.join(EXCLUDE_RULES)}"
            )
        years = _years(self.root)
        if len(years) == 1:
            object.__setattr__(self, "root", years[0])

    @property
    def options(self) -> dict[str, Any]:
        """See `Dataset.options`."""
        return {"split": self.split, "exclude": self.exclude, "together": self.together}

    def images(self) -> Iterator[FoundImage]:
        """See `Dataset.images`; an image with a damaged XML stays in the sets that list it."""
        listed: dict[str, dict[str, int]] = {}
        for path in self._class_lists():
            for image_id, value in _read_class_list(path).items():
                if value >= 0 or self.together:
                    class_name = path.name.removesuffix(f"_{self.split}.txt")
                    listed.setdefault(f"JPEGImages/{image_id}.jpg", {})[class_name] = value
        kept = 0
        for name, values in sorted(listed.items()):
            sets = self._kept_sets(name, values)
            if sets:
                kept += 1
                yield FoundImage(name, sets)
        if not kept:
            raise DatasetError(
                f"{self.root}: no images found; {len(listed)} are listed for {self.split}, "
                f"exclude: {self.exclude} leaves none"
            )

    def _class_lists(self) -> list[Path]:
        folder = self.root / "ImageSets" / "Main"
        for needed in (self.root, self.root / "JPEGImages", folder):
            if needed.is_dir():
                continue
            years = [path.relative_to(self.root).as_posix() for path in _years(self.root)]
            hint = f"choose one of {', '.join(years)}" if years else "choose a folder like VOC2007"
            raise DatasetError(f"{needed}: no such folder; for index.root {hint}")
        lists = sorted(folder.glob("*_*.txt"))
        chosen = [path for path in lists if path.name.endswith(f"_{self.split}.txt")]
        if not chosen:
            splits = sorted({path.stem.rsplit("_", 1)[1] for path in lists})
            held = f"it has {', '.join(splits)}" if splits else "it has no class lists at all"
            raise DatasetError(f"{folder}: no images of split {self.split!r}; {held}")
        return chosen

    def _kept_sets(self, name: str, values: dict[str, int]) -> tuple[str, ...]:
        """Those of the classes that list an image whose sets it belongs to."""
        if self.together:
            return (self.split,)
        if self.exclude == "none":
            return tuple(values)
        try:
            objects = self._objects(name)
        except DatasetError:
            objects = None
        if objects is None:  # the lists alone say that much: 0 is "difficult objects only"
            return tuple(class_name for class_name, value in values.items() if value == 1)
        truncated_too = self.exclude == "difficult_or_truncated"
        clear = {
            one.class_name
            for one in objects
            if not one.difficult and not (one.truncated and truncated_too)
        }
        return tuple(class_name for class_name in values if class_name in clear)

    def image_path(self, name: str) -> Path:
        """See `Dataset.image_path`."""
        return self.root / name

    def annotation_files(self, name: str) -> list[Path]:
        """See `Dataset.annotation_files`."""
        return [path for path in (self._xml(name), self._segmentation(name)) if path.is_file()]

    def _xml(self, name: str) -> Path:
        return self.root / "Annotations" / f"{PurePosixPath(name).stem}.xml"

    def _segmentation(self, name: str) -> Path:
        return self.root / "SegmentationClass" / f"{PurePosixPath(name).stem}.png"

    def _objects(self, name: str) -> "list[_Object] | None":
        path = self._xml(name)
        return _read_objects(path) if path.is_file() else None

    def boxes(self, name: str, image_set: str) -> tuple[Box, ...]:
        """The boxes of a set's class on an image, those of difficult and truncated objects too.

        Raises
        ------
        DatasetError
            When the XML is damaged.
        """
        objects = self._objects(name) or []
        return tuple(one.box for one in objects if self.together or one.class_name == image_set)

    def ground_truth(self, name: str, image_set: str) -> GroundTruth:
        """See `Dataset.ground_truth`; void pixels are not of the object."""
        boxes = self.boxes(name, image_set)
        path = self._segmentation(name)
        whole: Mask | None = None
        if path.is_file() and (self.together or image_set in CLASSES):
            values = read_indexed(path, image_size(self.image_path(name)))
            if self.together:
                whole = (values > 0) & (values <= len(CLASSES))
            else:
                whole = values == 1 + CLASSES.index(image_set)
        return GroundTruth(whole, boxes=boxes)


@dataclass(frozen=True)
class _Object:
    class_name: str
    difficult: bool
    truncated: bool
    box: Box


def _years(root: Path) -> list[Path]:
    """The VOC years that `root` may mean: itself, or those in it or in its ``VOCdevkit``."""
    if (root / "JPEGImages").is_dir():
        return [root]
    found = [*root.glob("VOC[0-9]*"), *root.glob("VOCdevkit/VOC[0-9]*")]
    return sorted(path for path in found if (path / "JPEGImages").is_dir())


def _read_class_list(path: Path) -> dict[str, int]:
    """Image id -> 1, 0 or -1."""
    try:
        listed = {}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if line.strip():
                image_id, value = line.split()
                if "/" in image_id or value not in {"-1", "0", "1"}:
                    raise ValueError(f"line {number} is {line!r}")
                listed[image_id] = int(value)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: not a list of image ids and 1, 0 or -1 ({error})") from error
    return listed


class _NoDoctype(ElementTree.TreeBuilder):
    """Annotations need no entities, and nested ones would grow without end."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        raise ValueError("it has a DOCTYPE, which is refused")


def _read_objects(path: Path) -> list[_Object]:
    """The objects of an annotation XML."""
    try:
        parser = ElementTree.XMLParser(target=_NoDoctype())
        root = ElementTree.parse(path, parser).getroot()
        return [_object(element) for element in root.findall("object")]
    except (OSError, ValueError, OverflowError, LookupError, ElementTree.ParseError) as error:
        raise DatasetError(f"{path}: not a readable VOC annotation ({error})") from error


def _object(element: ElementTree.Element) -> _Object:
    def text(path: str, default: str | None = None) -> str:
        found = element.findtext(path, default)
        if found is None or not found.strip():
            raise ValueError(f"an object has no {path}")
        return found.strip()

    # 1-based and inclusive; some years have fractions
    left, top, right, bottom = (
        round(float(text(f"bndbox/{side}"))) for side in ("xmin", "ymin", "xmax", "ymax")
    )
    if right < left or bottom < top:
        raise ValueError(f"the box {left} {top} {right} {bottom} is empty")
    if right < 1 or bottom < 1:
        raise ValueError(f"the box {left} {top} {right} {bottom} lies outside the image")
    return _Object(
        class_name=text("name"),
        difficult=text("difficult", "0") == "1",
        truncated=text("truncated", "0") == "1",
        box=(max(top - 1, 0), max(left - 1, 0), bottom, right),
    )
