"""A plain folder of photographs, with optional masks and parts, each of its image's size.

Images: ``<root>/images/[<set>/]*`` or, without an ``images`` folder, ``<root>/[<set>/]*``; anything
deeper belongs to the set of its first folder, and images in no folder form a set named after the
root. An image ``<set>/<stem>.jpg`` may have

- ``<root>/masks/<set>/<stem>.png``: the object is where it is neither black nor transparent;
- parts in ``<root>/parts/<set>/``: a folder ``<stem>/`` with one ``<part>.png`` each; or one
  indexed ``<stem>.png`` with the names of its values in ``parts.json`` (beside it or in
  ``<root>/parts``); or shapes in ``<stem>.json``, as labelme writes them.

For PNG stands any format that keeps pixels' values; `stages.datasets.assignment` says which names
mean one image. Annotations are of the image as a person sees it, unless only its size as stored
fits.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from stages.datasets.annotation_images import (
    NO_VOID,
    image_frame,
    read_indexed,
    read_mask,
)
from stages.datasets.assignment import Assigned, Names, assign, nfc, without_suffix
from stages.datasets.dataset import DatasetError, FoundImage, GroundTruth, LeftOut, Mask, Reader
from stages.datasets.listing import counted, entries, is_systems, list_images
from stages.datasets.polygons import read_polygons
from stages.frame.params import param
from stages.images.formats import IMAGE_SUFFIXES
from stages.images.orientation import Frame

IMAGES = "images"
LEGEND = "parts.json"
GROUND = ("background", "_background_")  # of labelme, too: no parts of an object
_Kind = Literal["mask", "part", "indexed", "legend", "polygons"]


@dataclass(frozen=True)
class FolderOptions:
    """Where the annotations of a plain folder are."""

    masks: str = param("masks", "folder below root with object masks, if there are any")
    parts: str = param("parts", "folder below root with part masks or polygons, if there are any")
    whole: str = param("", "name of the part that is the whole object, if one is")
    void: int = param(NO_VOID, "value of pixels that count nowhere, such as 255; -1 for none")


@dataclass(frozen=True)
class IcosegOptions(FolderOptions):
    """Where the annotations of iCoseg are: the masks in ``ground_truth/<group>/``."""

    masks: str = param("ground_truth", "folder below root with object masks")


@dataclass
class _Contents:
    """What the folders of a collection hold.

    Attributes
    ----------
    images : list of str
        Names, sorted.
    annotations : dict of image name to (kind, file)
    left_out : list of LeftOut
    """

    images: list[str]
    annotations: dict[str, list[tuple[_Kind, Path]]] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)


@dataclass(frozen=True)
class FolderDataset:
    """A plain folder; see the module's docstring for the layout."""

    root: Path
    options: FolderOptions = FolderOptions()

    @cached_property
    def _image_root(self) -> Path:
        images = self._below(IMAGES)
        return images if images.is_dir() else self.root

    def _below(self, folder: str) -> Path:
        """A folder below the root, whatever its letters' case; it need not be there."""
        path = self.root
        for part in PurePosixPath(folder).parts:
            if not (path / part).exists() and path.is_dir():
                wanted = nfc(part).casefold()
                alike = [e.name for e in entries(path) if nfc(e.name).casefold() == wanted]
                part = alike[0] if len(alike) == 1 else part
            path /= part
        if not path.is_relative_to(self.root):
            raise DatasetError(f"{folder}: annotations must lie below {self.root}")
        return path

    def images(self) -> Iterator[FoundImage]:
        """See `Dataset.images`."""
        for known in ("_contents", "_image_root", "_prefix", "_own_set"):
            self.__dict__.pop(known, None)
        if not self.root.is_dir():
            raise DatasetError(
                f"{self.root}: no such folder; set index.root in params.yaml to your photographs"
            )
        contents = self._contents
        if not contents.images:
            files = [one for one in contents.left_out if one.kind == "file"]
            held = (
                f"it holds {len(files)} other files: {counted(files)}" if files else "it is empty"
            )
            raise DatasetError(f"{self._image_root}: no images found; {held}")
        sets: dict[str, tuple[str]] = {}  # one for all images of a set
        for name in contents.images:
            of = self._set_of(name)
            yield FoundImage(name, sets.setdefault(of, (of,)))

    def left_out(self) -> list[LeftOut]:
        """See `Dataset.left_out`."""
        return self._contents.left_out

    @cached_property
    def _contents(self) -> _Contents:
        folders = [name for name in (self.options.masks, self.options.parts) if name]
        apart = {self._below(name) for name in folders}
        listing = list_images(self.root, self._image_root, apart)
        contents = _Contents(listing.images, left_out=listing.left_out)
        if self._image_root != self.root:
            contents.left_out += self._beside(apart)
        if any(folder.is_dir() for folder in apart):
            names = Names({name: self._relative(name) for name in listing.images})
            self._find_masks(contents, names, apart)
            self._find_parts(contents, names, apart)
        return contents

    def _beside(self, apart: set[Path]) -> Iterator[LeftOut]:
        """What lies beside the folder of images, and may have been meant to be used."""
        for entry in entries(self.root):
            path = self.root / entry.name
            if path in {*apart, self._image_root} or entry.name.startswith("."):
                continue
            folder = path.is_dir() and not is_systems(entry.name)
            if folder or path.suffix.lower() in IMAGE_SUFFIXES:
                here = self._image_root.name
                yield LeftOut(entry.name, f"beside the folder {here}/, which alone is looked into")

    def _find_masks(self, contents: _Contents, names: Names, apart: set[Path]) -> None:
        masks = self._below(self.options.masks) if self.options.masks else None
        if masks is None or not masks.is_dir():
            return
        listing = list_images(masks, masks, apart)
        folder = masks.relative_to(self.root).as_posix()
        found = assign(folder, listing.images, lambda path: names.of(without_suffix(path)))
        found.one_each()
        self._use(contents, found, "mask")
        self._leave_out(contents, folder, listing.left_out)

    def _find_parts(self, contents: _Contents, names: Names, apart: set[Path]) -> None:
        parts = self._below(self.options.parts) if self.options.parts else None
        if parts is None or not parts.is_dir():
            return
        listing = list_images(parts, parts, apart)
        folder = parts.relative_to(self.root).as_posix()
        drawn = [one for one in listing.left_out if one.name.lower().endswith(".json")]
        shapes = [one.name for one in drawn if PurePosixPath(one.name).name.lower() != LEGEND]
        whole = [path for path in listing.images if names.of(without_suffix(path))]
        single = [path for path in listing.images if path not in set(whole)]
        assigned = {
            "part": assign(folder, single, lambda path: names.of(str(PurePosixPath(path).parent))),
            "indexed": assign(folder, whole, lambda path: names.of(without_suffix(path))),
            "polygons": assign(folder, shapes, lambda path: names.of(without_suffix(path))),
        }
        for kind, found in assigned.items():
            found.one_each(nfc_stem if kind == "part" else lambda path: "")
            self._use(contents, found, kind)  # type: ignore[arg-type]
        self._leave_out(contents, folder, [one for one in listing.left_out if one not in drawn])

    def _use(self, contents: _Contents, found: Assigned, kind: _Kind) -> None:
        for image, paths in found.of_image.items():
            mine = contents.annotations.setdefault(image, [])
            for path in sorted(paths):
                mine.append((kind, self.root / found.folder / path))
                legend = self._legend_of(mine[-1][1])
                if kind == "indexed" and legend.is_file():
                    mine.append(("legend", legend))
        contents.left_out += found.left_out

    def _leave_out(self, contents: _Contents, folder: str, files: list[LeftOut]) -> None:
        """Files among the annotations that are none."""
        contents.left_out += [
            LeftOut(f"{folder}/{one.name}", one.reason, "annotation") for one in files
        ]

    @cached_property
    def _prefix(self) -> str:
        """What names of images begin with."""
        if self._image_root == self.root:
            return ""
        return f"{self._image_root.relative_to(self.root).as_posix()}/"

    def _relative(self, name: str) -> str:
        """An image's path below the image root: where its annotations lie in their folders."""
        return name.removeprefix(self._prefix)

    @cached_property
    def _own_set(self) -> str:
        """Of images that lie in no folder."""
        return self.root.resolve().name or "images"

    def _set_of(self, name: str) -> str:
        first, within, _ = self._relative(name).partition("/")
        return first if within else self._own_set

    def image_path(self, name: str) -> Path:
        """See `Dataset.image_path`."""
        return self.root / name

    def annotation_files(self, name: str) -> list[Path]:
        """See `Dataset.annotation_files`."""
        return [path for _, path in self._contents.annotations.get(name, [])]

    def _legend_of(self, indexed: Path) -> Path:
        beside = indexed.parent / LEGEND
        return beside if beside.is_file() else self._below(self.options.parts) / LEGEND

    def ground_truth(self, name: str, image_set: str) -> GroundTruth:
        """See `Dataset.ground_truth`; masks must have the image's size."""
        annotations = self._contents.annotations.get(name, [])
        if not annotations:
            return GroundTruth()
        read = _Read(image_frame(self.image_path(name)), self.options.void)
        for kind, path in annotations:
            if kind == "mask":
                read.whole = read.mask(path)
            elif kind == "part":
                read.add({nfc(path.stem): read.mask(path)})
            elif kind == "indexed":
                read.add(read.legend(path, self._legend_of(path)))
            elif kind == "polygons":
                parts, notes = read_polygons(path, read.frame)
                read.add(parts)
                read.notes += notes
        return read.truth(self.options.whole)


def nfc_stem(path: str) -> str:
    """The name of a part, by its file's."""
    return nfc(PurePosixPath(path).stem)


@dataclass
class _Read:
    """What has been read of an image's annotations so far."""

    frame: Frame
    void: int
    whole: Mask | None = None
    parts: dict[str, Mask] = field(default_factory=dict)
    ignore: Mask | None = None
    notes: tuple[str, ...] = ()

    def mask(self, path: Path) -> Mask:
        """Read a mask; what is void in it is void."""
        mask, ignore = read_mask(path, self.frame, self.void)
        if ignore is not None:
            self.ignore = ignore if self.ignore is None else self.ignore | ignore
        return mask

    def add(self, parts: dict[str, Mask]) -> None:
        """Add parts; of two annotations that have one of a name, the later counts."""
        self.parts |= parts

    def legend(self, path: Path, legend: Path) -> dict[str, Mask]:
        """Parts of an indexed image by the names that ``parts.json`` gives its values.

        Values of one name are united. 0 is the background, whatever it is called.
        """
        values = read_indexed(path, self.frame)
        try:
            content = json.loads(legend.read_bytes())
            names = [(int(value), nfc(str(name))) for value, name in content.items()]
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise DatasetError(
                f'{legend}: must name the values of {path.name}, like {{"1": "head"}} ({error})'
            ) from error
        parts: dict[str, Mask] = {}
        for value, name in names:
            mask = values == value
            if value not in (0, self.void) and mask.any():
                parts[name] = parts[name] | mask if name in parts else mask
        if self.void != NO_VOID and (ignore := values == self.void).any():
            self.ignore = ignore if self.ignore is None else self.ignore | ignore
        self._note_unnamed(path, values, {value for value, _ in names})
        return parts

    def _note_unnamed(self, path: Path, values: Any, named: set[int]) -> None:
        unnamed = sorted(set(np.unique(values).tolist()) - named - {0, self.void})
        if unnamed:
            shown = ", ".join(str(value) for value in unnamed[:5])
            self.notes += (f"{path}: {LEGEND} does not name the values {shown}",)

    def truth(self, whole_part: str) -> GroundTruth:
        """All of it; without a mask the object is what the parts are of."""
        whole, parts = self.whole, self.parts
        if whole_part and whole_part in parts:
            named = parts.pop(whole_part)
            whole = named if whole is None else whole
        if whole is None:
            shown = [mask for part, mask in parts.items() if part not in GROUND]
            whole = np.logical_or.reduce([np.zeros(self.frame.seen, bool), *shown])
        return GroundTruth(whole, parts, ignore=self.ignore, notes=self.notes)


FOLDER = Reader(FolderOptions, FolderDataset)
ICOSEG = Reader(IcosegOptions, FolderDataset)
