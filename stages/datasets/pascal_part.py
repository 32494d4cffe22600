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
from scipy.io import loadmat

from stages.datasets.dataset import DatasetError, FoundImage, GroundTruth, Mask
from stages.datasets.folder import image_size
from stages.datasets.voc import VocDataset

MergeTable = Mapping[str, Mapping[str, str]]  # class -> PASCAL-Part's name -> ours


@dataclass(frozen=True)
class PascalPartDataset:
    """Reader of PASCAL-Part; see the module's docstring for the layout.

    Left and right, numbered and subdivided parts are one part here, as one of the mappings in
    ``pascal_part_merge.yaml`` says.

    Parameters
    ----------
    root : Path
    voc, annotations : str
        The VOC year's folder and that of the ``.mat`` files, below the root.
    split, exclude : str
        As in `VocDataset`.
    merge : str
        Name of the mapping.

    Raises
    ------
    ValueError
        A folder that is not below the root, or an unknown `exclude` or `merge`.
    """

    root: Path
    voc: str = "VOCdevkit/VOC2010"
    annotations: str = "Annotations_Part"
    split: str = "trainval"
    exclude: str = "difficult_or_truncated"
    merge: str = "sides"

    def __post_init__(self) -> None:
        if self.merge not in merge_tables():
            raise ValueError(
                f"merge: {self.merge!r} is unknown, choose {', '.join(merge_tables())}"
            )
        for folder in (self.voc, self.annotations):
            if PurePosixPath(folder).is_absolute() or ".." in PurePosixPath(folder).parts:
                raise ValueError(f"{folder}: must be a folder below the root")
        _ = self._voc  # checks the rest

    @cached_property
    def _voc(self) -> VocDataset:
        return VocDataset(self.root / self.voc, self.split, self.exclude)

    @property
    def options(self) -> dict[str, Any]:
        """See `Dataset.options`."""
        return {
            "voc": self.voc,
            "annotations": self.annotations,
            "split": self.split,
            "exclude": self.exclude,
            "merge": self.merge,
        }

    def images(self) -> Iterator[FoundImage]:
        """See `Dataset.images`; only images with a ``.mat`` file."""
        folder = self.root / self.annotations
        if not folder.is_dir():
            raise DatasetError(
                f"{folder}: no such folder; set index.root in params.yaml to the folder "
                f"with {self.annotations} and {self.voc}"
            )
        annotated = {path.stem for path in folder.glob("*.mat")}
        found = False
        for image in self._voc.images():
            if PurePosixPath(image.name).stem in annotated:
                found = True
                path = self._voc.image_path(image.name)
                yield FoundImage(path.relative_to(self.root).as_posix(), image.sets)
        if not found:
            raise DatasetError(
                f"{folder}: no images found; none of split {self.split} has a .mat file here"
            )

    def image_path(self, name: str) -> Path:
        """See `Dataset.image_path`."""
        return self.root / name

    def _mat(self, name: str) -> Path:
        return self.root / self.annotations / f"{PurePosixPath(name).stem}.mat"

    def annotation_files(self, name: str) -> list[Path]:
        """See `Dataset.annotation_files`."""
        xml = [path for path in self._voc.annotation_files(name) if path.suffix == ".xml"]
        return [path for path in (self._mat(name), *xml) if path.is_file()]

    def ground_truth(self, name: str, image_set: str) -> GroundTruth:
        """See `Dataset.ground_truth`; objects and parts of the class are united."""
        boxes = self._voc.boxes(name, image_set)
        path = self._mat(name)
        if not path.is_file():
            return GroundTruth(boxes=boxes)
        whole: Mask | None = None
        parts: dict[str, Mask] = {}
        size = image_size(self.image_path(name))
        for found in _read_objects(path, size):
            if found.class_name == image_set:
                whole = found.mask if whole is None else whole | found.mask
                for raw, mask in found.parts:
                    part = merged_name(image_set, raw, self.merge)
                    parts[part] = parts[part] | mask if part in parts else mask
        return GroundTruth(whole, parts, boxes)


def merged_name(class_name: str, part_name: str, merge: str = "sides") -> str:
    """What a part of PASCAL-Part is called here: ``lfuleg`` is a leg, ``wheel_2`` a wheel."""
    plain = re.sub(r"_\d+$", "", part_name)
    for table in merge_tables()[merge]:
        plain = table.get(class_name, {}).get(plain, plain)
    return plain


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
class _Object:
    class_name: str
    mask: Mask
    parts: list[tuple[str, Mask]]


def _read_objects(path: Path, size: tuple[int, int]) -> list[_Object]:
    """The objects of a ``.mat`` file, whose masks must have the image's (height, width)."""
    try:
        content = loadmat(path, simplify_cells=True, variable_names=["anno"])
        return [
            _Object(
                class_name=_string(record["class"]),
                mask=_mask(record, size),
                parts=[
                    (_string(part["part_name"]), _mask(part, size))
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


def _mask(record: Mapping[str, Any], size: tuple[int, int]) -> Mask:
    mask: Mask = np.asarray(record["mask"]) != 0
    if mask.shape != size:
        raise ValueError(f"a mask is {mask.shape}, the image {size}")
    return mask
