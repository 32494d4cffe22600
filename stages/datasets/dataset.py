"""The door for collections: what a reader of one kind of them must say.

A new reader is a module here with a frozen dataclass of options (its fields made by
`stages.frame.params.param`), a class that follows `Dataset`, and a `Reader` of the two that is
registered in `READERS`. Then `index.dataset` takes its name, and params.yaml has its options in a
section of that name. `tests/datasets/test_conformance.py` tries what the protocol promises, on a
small collection that the reader's author adds there.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Box = tuple[int, int, int, int]


class DatasetError(Exception):
    """A collection or one of its annotations cannot be read; the line says which and why."""


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An image file of a collection, and the image sets it belongs to."""

    name: str  # path below the collection's root, with forward slashes
    sets: tuple[str, ...]


@dataclass(frozen=True)
class LeftOut:
    """A file of a collection, or an image's annotation, that is not used.

    Attributes
    ----------
    name : str
        Path below the collection's root.
    reason : str
    kind : str
        A ``file`` is no photograph; an ``annotation`` belongs to no image, or nobody knows to
        which.
    """

    name: str
    reason: str
    kind: Literal["file", "annotation"] = "file"


@dataclass(frozen=True)
class GroundTruth:
    """What is annotated on one image.

    Attributes
    ----------
    whole : bool array [h, w] or None
        The object.
    parts : mapping of part name to bool array [h, w]
        Annotated regions; they may overlap.
    boxes : tuple of (top, left, bottom, right)
        Of the set's objects; 0-based pixels, half-open.
    ignore : bool array [h, w] or None
        Pixels of which nobody knows what they are of (void); they count nowhere.
    notes : tuple of str
        What of the annotation is doubtful, or was left out of it.
    difficult : tuple of bool
        Of each box, whether it is no mistake to miss it; empty where that is not said.
    """

    whole: Mask | None = None
    parts: Mapping[str, Mask] = field(default_factory=dict)
    boxes: tuple[Box, ...] = ()
    ignore: Mask | None = None
    notes: tuple[str, ...] = ()
    difficult: tuple[bool, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing is annotated."""
        return self.whole is None and not self.parts and not self.boxes


class Dataset(Protocol):
    """A collection on disk."""

    @property
    def root(self) -> Path:
        """The folder that image names are relative to."""

    def images(self) -> Iterator[FoundImage]:
        """All image files, sorted by name; the folders are looked through anew.

        Raises
        ------
        DatasetError
            When the root is missing or holds no images.
        """

    def left_out(self) -> list[LeftOut]:
        """Everything in the folders that is not used, and annotations that cannot be assigned."""

    def image_path(self, name: str) -> Path:
        """The file of an image."""

    def annotation_files(self, name: str) -> list[Path]:
        """The files that `ground_truth` reads for an image; empty when it has none."""

    def ground_truth(self, name: str, image_set: str) -> GroundTruth:
        """The annotation of an image as a member of a set (its object may differ from set to set).

        Raises
        ------
        DatasetError
            When an annotation file is damaged, or cannot be of this image.
        """


@dataclass(frozen=True)
class Reader:
    """How one kind of collection is opened.

    Attributes
    ----------
    options : type
        A frozen dataclass, validated in ``__post_init__``; may have no fields.
    open : callable
        ``open(root, options)`` gives the collection in a folder.
    draw : callable, optional
        ``draw(root, options)`` makes the collection in a new folder first, which is then part of
        the index artifact: for collections that are in no folder of the user's. The same options
        give the same files, also over what an interrupted call left.
    """

    options: type
    open: Callable[[Path, Any], Dataset]
    draw: Callable[[Path, Any], None] | None = None
