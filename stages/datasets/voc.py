"""PASCAL VOC: the devkit's layout, one image set per class.

Below the year's folder: ``JPEGImages/<id>.jpg``, ``Annotations/<id>.xml`` (boxes),
``ImageSets/Main/<class>_<split>.txt`` (``<id> 1``, 0 when only difficult objects are there, or -1)
and, for some images, ``SegmentationClass/<id>.png`` (pixel value = class, 255 = void).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Literal

from stages.datasets.annotation_images import NO_VOID, image_frame, read_indexed
from stages.datasets.assignment import nfc
from stages.datasets.dataset import (
    Box,
    DatasetError,
    FoundImage,
    GroundTruth,
    LeftOut,
    Mask,
    Reader,
)
from stages.datasets.listing import entries, is_file
from stages.datasets.voc_lists import ClassLists, ImageFiles, class_list_files, read_class_lists
from stages.datasets.voc_xml import VocObject, VocXml, read_xml
from stages.frame.params import check_choices, param
from stages.images.orientation import Frame

# In the order of their pixel values in SegmentationClass, from 1.
CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
ExcludeRule = Literal["difficult_or_truncated", "difficult", "none"]


@dataclass(frozen=True)
class VocOptions:
    """Which images of a VOC year there are, and in which sets.

    Attributes
    ----------
    split : str
        trainval, train, val or test.
    exclude : str
        An image is left out of a class's set when all its objects of that class are marked
        difficult or truncated (``difficult_or_truncated``), or difficult (``difficult``), or
        never (``none``).
    together : bool
        Instead of one set per class, one set of all images of the split, with the objects of all
        classes: the class-agnostic protocol. Nothing is left out.
    void : int
        Value of the pixels of a segmentation that count nowhere; -1 for none.

    Raises
    ------
    ValueError
        An unknown `exclude`.
    """

    split: str = param("trainval", "which list of images: trainval, train, val or test")
    exclude: ExcludeRule = param(
        "difficult_or_truncated", "leave out images with only such objects; difficult, none"
    )
    together: bool = param(False, "one set of all images, whatever is on them")
    void: int = param(255, "value of pixels that count nowhere; -1 for none")

    def __post_init__(self) -> None:
        check_choices(self)


@dataclass(frozen=True)
class VocDataset:
    """A VOC year; see the module's docstring for the layout.

    Parameters
    ----------
    root : Path
        The year's folder (``VOC2007``), or a folder with only one such folder in it or in its
        ``VOCdevkit``, which then becomes the root.
    options : VocOptions
    """

    root: Path
    options: VocOptions = VocOptions()

    def __post_init__(self) -> None:
        years = _years(self.root)
        if len(years) == 1:
            object.__setattr__(self, "root", years[0])

    def images(self) -> Iterator[FoundImage]:
        """See `Dataset.images`; an image with a damaged XML stays in the sets that list it."""
        for known in ("_lists", "_sets", "_files"):
            self.__dict__.pop(known, None)
        kept = {name: sets for name, (sets, _) in self._sets.items() if sets}
        if not kept:
            reasons = [reason for _, reason in self._sets.values() if reason]
            listed = sum(any(v >= 0 for v in one.values()) for one in self._lists.values.values())
            why = reasons[0] if reasons else f"exclude: {self.options.exclude} leaves none"
            raise DatasetError(
                f"{self.root}: no images found; {listed} are listed for {self.options.split}, {why}"
            )
        for name, sets in kept.items():
            yield FoundImage(name, sets)

    def left_out(self) -> list[LeftOut]:
        """See `Dataset.left_out`; not those that the rule `exclude` leaves out."""
        contradictions = [
            LeftOut(name, reason, "annotation")
            for name, (_, reason) in self._sets.items()
            if reason
        ]
        return [*self._lists.left_out, *contradictions]

    @cached_property
    def _lists(self) -> ClassLists:
        folder = self.root / "ImageSets" / "Main"
        for needed in (self.root, self.root / "JPEGImages", folder):
            if needed.is_dir():
                continue
            years = [path.relative_to(self.root).as_posix() for path in _years(self.root)]
            hint = f"choose one of {', '.join(years)}" if years else "choose a folder like VOC2007"
            raise DatasetError(f"{needed}: no such folder; for index.root {hint}")
        files = class_list_files(folder, self.options.split)
        return read_class_lists(files, ImageFiles(self.root / "JPEGImages"))

    @cached_property
    def _sets(self) -> dict[str, tuple[tuple[str, ...], str]]:
        """Image name -> its sets, and where its lists and its XML contradict each other."""
        found: dict[str, tuple[tuple[str, ...], str]] = {}
        for name, values in sorted(self._lists.values.items()):
            if self.options.together:
                found[name] = ((self.options.split,), "")
            else:
                found[name] = self._kept_sets(name, values)
        return found

    def _kept_sets(self, name: str, listed: dict[str, int]) -> tuple[tuple[str, ...], str]:
        """Those of the classes that list an image whose sets it belongs to; contradictions."""
        values = {one: value for one, value in listed.items() if value >= 0}
        if self.options.exclude == "none":
            return tuple(values), ""
        try:
            xml = self._xml(name)
        except DatasetError:
            xml = None
        if xml is None:  # the lists alone say that much: 0 is "difficult objects only"
            return tuple(class_name for class_name, value in values.items() if value == 1), ""
        clear = [one for one in xml.objects if self._is_clear(one)]
        kept = tuple(name for name in values if any(one.is_of(name) for one in clear))
        missing = [name for name in values if not any(one.is_of(name) for one in xml.objects)]
        denied = [
            name for name in listed if name not in values and any(o.is_of(name) for o in clear)
        ]
        shown = ", ".join(sorted({one.class_name for one in xml.objects})) or "no object"
        reasons = [f"is listed for {', '.join(missing)}, its XML has {shown}"] if missing else []
        if denied:
            reasons.append(f"is listed as without {', '.join(denied)}, its XML has {shown}")
        return kept, "; ".join(reasons)

    def _is_clear(self, one: VocObject) -> bool:
        truncated_too = self.options.exclude == "difficult_or_truncated"
        return not one.difficult and not (one.truncated and truncated_too)

    def image_path(self, name: str) -> Path:
        """See `Dataset.image_path`."""
        return self.root / name

    def annotation_files(self, name: str) -> list[Path]:
        """See `Dataset.annotation_files`."""
        return [path for path in (self._xml_path(name), self._segmentation(name)) if is_file(path)]

    def _xml_path(self, name: str) -> Path:
        return self._beside("Annotations", f"{PurePosixPath(name).stem}.xml")

    def _segmentation(self, name: str) -> Path:
        return self._beside("SegmentationClass", f"{PurePosixPath(name).stem}.png")

    def _beside(self, folder: str, name: str) -> Path:
        """A file of an image, whatever the case of its name."""
        if folder not in self._files:
            path = self.root / folder
            found = entries(path) if path.is_dir() else []
            self._files[folder] = {nfc(one.name).casefold(): one.name for one in found}
            self._files[folder] |= {one.name: one.name for one in found}
        known = self._files[folder]
        return self.root / folder / (known.get(name) or known.get(nfc(name).casefold(), name))

    @cached_property
    def _files(self) -> dict[str, dict[str, str]]:
        return {}

    def _xml(self, name: str) -> VocXml | None:
        path = self._xml_path(name)
        return read_xml(path) if is_file(path) else None

    def boxes(
        self, name: str, image_set: str, frame: Frame
    ) -> tuple[tuple[Box, ...], tuple[bool, ...]]:
        """The boxes of a set's class on an image, and which of them are of difficult objects.

        Raises
        ------
        DatasetError
            When the XML is damaged or of another image, or a box lies outside.
        """
        xml = self._xml(name)
        if xml is None:
            return (), ()
        mine = [one for one in xml.objects if self.options.together or one.is_of(image_set)]
        found = tuple(xml.box_on(frame, one.box) for one in mine)
        return found, tuple(one.difficult for one in mine)

    def _unnumbered(self, path: Path, image_set: str) -> tuple[str, ...]:
        """That a segmentation cannot say where a class is that VOC does not know."""
        if self.options.together or _number(image_set) or not is_file(path):
            return ()
        return (f"{path}: has no number for {image_set}, which is none of VOC's classes",)

    def notes(self, name: str, frame: Frame) -> tuple[str, ...]:
        """What is assumed of the annotation of an image that is turned when shown."""
        xml = self._xml(name) if frame.orientation != 1 else None
        told = frame.stored != frame.seen and (xml is None or xml.size is not None)
        if frame.orientation == 1 or told:
            return ()
        return (
            f"{name}: is turned when shown (EXIF orientation {frame.orientation}); its annotation "
            "is taken to be of the pixels as stored",
        )

    def ground_truth(self, name: str, image_set: str) -> GroundTruth:
        """See `Dataset.ground_truth`; void pixels count nowhere."""
        if not self.annotation_files(name):
            return GroundTruth()
        frame = image_frame(self.image_path(name))
        boxes, difficult = self.boxes(name, image_set, frame)
        path = self._segmentation(name)
        whole: Mask | None = None
        ignore: Mask | None = None
        number = _number(image_set)
        if is_file(path) and (self.options.together or number):
            values = read_indexed(path, frame, of_stored=True)
            if self.options.together:
                whole = (values > 0) & (values <= len(CLASSES))
            else:
                whole = values == number
            if self.options.void != NO_VOID and (values == self.options.void).any():
                ignore = values == self.options.void
        notes = (*self.notes(name, frame), *self._unnumbered(path, image_set))
        return GroundTruth(whole, boxes=boxes, ignore=ignore, notes=notes, difficult=difficult)


def _number(class_name: str) -> int:
    """The value of a class in the segmentation; 0 for one that VOC does not know."""
    folded = class_name.casefold()
    return CLASSES.index(folded) + 1 if folded in CLASSES else 0


def _years(root: Path) -> list[Path]:
    """The VOC years that `root` may mean: itself, or those in it or in its ``VOCdevkit``."""
    if (root / "JPEGImages").is_dir():
        return [root]
    found = [*root.glob("VOC[0-9]*"), *root.glob("VOCdevkit/VOC[0-9]*")]
    return sorted(path for path in found if (path / "JPEGImages").is_dir())


VOC = Reader(VocOptions, VocDataset)
