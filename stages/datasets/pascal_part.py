"""PASCAL-Part: the parts of PASCAL VOC 2010's objects, one image set per class.

Below the root: ``Annotations_Part/<id>.mat`` with ``anno.objects[]`` of ``class``, ``mask`` and
``parts[]`` of ``part_name``, ``mask``; and the VOC year that the images, sets and boxes come from.
Chen et al., "Detect What You Can", CVPR 2014.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from stages.datasets.annotation_images import image_frame, placed
from stages.datasets.dataset import (
    DatasetError,
    FoundImage,
    GroundTruth,
    LeftOut,
    Mask,
    Reader,
)
from stages.datasets.listing import is_file
from stages.datasets.voc import ExcludeRule, VocDataset, VocOptions
from stages.frame.params import check_choices, param
from stages.images.orientation import Frame

MergeTable = Mapping[str, Mapping[str, str]]  # class -> PASCAL-Part's name -> ours


@cache
def merge_tables() -> Mapping[str, Sequence[MergeTable]]:
    """Each mapping as the tables that are applied one after the other."""
    path = Path(__file__).with_name("pascal_part_merge.yaml")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    tables: dict[str, Sequence[MergeTable]] = {}
    for name, table in content.items():
        before = tables[table.pop("after")] if "after" in table else ()
        tables[name] = (*before, table)
    return tables


@dataclass(frozen=True)
class PascalPartOptions:
    """Which images of PASCAL-Part there are, and which parts are one.

    Attributes
    ----------
    split, exclude : str
        As in `VocOptions`.
    merge : str
        Name of one of the mappings in ``pascal_part_merge.yaml``.
    voc, annotations : str
        The VOC year's folder and that of the ``.mat`` files, below the root.

    Raises
    ------
    ValueError
        A folder that is not below the root, or an unknown `exclude` or `merge`.
    """

    split: str = param("trainval", "which list of images: trainval, train or val")
    exclude: ExcludeRule = param(
        "difficult_or_truncated", "leave out images with only such objects; difficult, none"
    )
    merge: str = param("sides", "which parts are one: sides or coarse")
    voc: str = param("VOCdevkit/VOC2010", "folder of the VOC year, below root")
    annotations: str = param("Annotations_Part", "folder of the .mat files, below root")

    def __post_init__(self) -> None:
        check_choices(self)
        if self.merge not in merge_tables():
            raise ValueError(
                f"merge: {self.merge!r} is unknown, choose {', '.join(merge_tables())}"
            )
        for name, folder in (("voc", self.voc), ("annotations", self.annotations)):
            if PurePosixPath(folder).is_absolute() or ".." in PurePosixPath(folder).parts:
                raise ValueError(f"{name}: {folder!r} must be a folder below the root")


@dataclass(frozen=True)
class PascalPartDataset:
    """PASCAL-Part; see the module's docstring for the layout.

    Left and right, numbered and subdivided parts are one part here.
    """

    root: Path
    options: PascalPartOptions = PascalPartOptions()

    @cached_property
    def _voc(self) -> VocDataset:
        options = VocOptions(self.options.split, self.options.exclude)
        return VocDataset(self.root / self.options.voc, options)

    def images(self) -> Iterator[FoundImage]:
        """See `Dataset.images`; only images with a ``.mat`` file."""
        folder = self.root / self.options.annotations
        if not folder.is_dir():
            raise DatasetError(
                f"{folder}: no such folder; set index.root in params.yaml to the folder "
                f"with {self.options.annotations} and {self.options.voc}"
            )
        annotated = {path.stem for path in folder.glob("*.mat")}
        found = False
        for image in self._voc.images():
            if PurePosixPath(image.name).stem in annotated:
                found = True
                yield FoundImage(self._name(image.name), image.sets)
        if not found:
            raise DatasetError(
                f"{folder}: no images found; none of split {self.options.split} has a .mat file"
            )

    def left_out(self) -> list[LeftOut]:
        """See `Dataset.left_out`."""
        below = self.root / self.options.annotations
        found = [
            LeftOut(self._name(one.name), one.reason, one.kind) for one in self._voc.left_out()
        ]
        for image in self._voc.images():
            if not is_file(below / f"{PurePosixPath(image.name).stem}.mat"):
                found.append(LeftOut(self._name(image.name), "has no .mat file"))
        for path in sorted(below.glob("*.mat")):
            if not (self._voc.root / "JPEGImages" / f"{path.stem}.jpg").exists():
                name = path.relative_to(self.root).as_posix()
                found.append(LeftOut(name, "belongs to no image", "annotation"))
        return found

    def _name(self, of_voc: str) -> str:
        return self._voc.image_path(of_voc).relative_to(self.root).as_posix()

    def image_path(self, name: str) -> Path:
        """See `Dataset.image_path`."""
        return self.root / name

    def _mat(self, name: str) -> Path:
        return self.root / self.options.annotations / f"{PurePosixPath(name).stem}.mat"

    def annotation_files(self, name: str) -> list[Path]:
        """See `Dataset.annotation_files`."""
        xml = [path for path in self._voc.annotation_files(name) if path.suffix == ".xml"]
        return [path for path in (self._mat(name), *xml) if is_file(path)]

    def ground_truth(self, name: str, image_set: str) -> GroundTruth:
        """See `Dataset.ground_truth`; objects and parts of the class are united."""
        if not self.annotation_files(name):
            return GroundTruth()
        frame = image_frame(self.image_path(name))
        boxes, difficult = self._voc.boxes(name, image_set, frame)
        path = self._mat(name)
        if not is_file(path):
            return GroundTruth(boxes=boxes, difficult=difficult)
        whole: Mask | None = None
        parts: dict[str, Mask] = {}
        for found in _read_objects(path, frame):
            if found.class_name == image_set:
                whole = found.mask if whole is None else whole | found.mask
                for raw, mask in found.parts:
                    part = merged_name(image_set, raw, self.options.merge)
                    parts[part] = parts[part] | mask if part in parts else mask
        notes = self._voc.notes(name, frame)
        return GroundTruth(whole, parts, boxes, notes=notes, difficult=difficult)


def merged_name(class_name: str, part_name: str, merge: str = "sides") -> str:
    """What a part of PASCAL-Part is called here: ``lfuleg`` is a leg, ``wheel_2`` a wheel."""
    plain = re.sub(r"_\d+$", "", part_name)
    for table in merge_tables()[merge]:
        plain = table.get(class_name, {}).get(plain, plain)
    return plain


@dataclass(frozen=True)
class _Object:
    class_name: str
    mask: Mask
    parts: list[tuple[str, Mask]]


def _read_objects(path: Path, frame: Frame) -> list[_Object]:
    """The objects of a ``.mat`` file, whose masks must have the image's size, as seen."""
    try:
        from scipy.io import loadmat  # here: no other collection has such files

        content = loadmat(path, simplify_cells=True, variable_names=["anno"])
        return [
            _Object(
                class_name=_string(record["class"]),
                mask=_mask(path, record, frame),
                parts=[
                    (_string(part["part_name"]), _mask(path, part, frame))
                    for part in _records(record["parts"])
                ],
            )
            for record in _records(content["anno"]["objects"])
        ]
    except Exception as error:  # damaged files make loadmat raise nearly anything
        raise DatasetError(f"{path}: not a readable PASCAL-Part annotation ({error!r})") from error


def _records(value: Any) -> list[Any]:
    """The structs of an array from which loadmat has squeezed an only one; empty arrays have none.

    Numbers and strings come out as they are and fail where a field of them is asked for.
    """
    if isinstance(value, list):
        return value
    return [] if isinstance(value, np.ndarray) and value.size == 0 else [value]


def _string(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{value!r} is not a name")
    return value


def _mask(path: Path, record: Mapping[str, Any], frame: Frame) -> Mask:
    mask: Mask = np.asarray(record["mask"]) != 0
    if mask.shape not in (frame.seen, frame.stored):
        raise ValueError(f"a mask is {mask.shape}, the image {frame.seen}")
    return placed(path, mask, frame, of_stored=True)


PASCAL_PART = Reader(PascalPartOptions, PascalPartDataset)
