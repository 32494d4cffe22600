"""The protocol that every dataset reader follows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Box = tuple[int, int, int, int]


class DatasetError(Exception):
    """A collection or one of its annotations cannot be read; the line says which and why."""


@dataclass(frozen=True)
class FoundImage:
    """An image file of a collection, and the image sets it belongs to."""

    name: str  # path below the collection's root, with forward slashes
    sets: tuple[str, ...]


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
    """

    whole: Mask | None = None
    parts: Mapping[str, Mask] = field(default_factory=dict)
    boxes: tuple[Box, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing is annotated."""
        return self.whole is None and not self.parts and not self.boxes


class Dataset(Protocol):
    """A collection on disk."""

    @property
    def root(self) -> Path:
        """The folder that image names are relative to."""

    @property
    def options(self) -> dict[str, Any]:
        """What besides the root opens the same collection again: ``Reader(root, **options)``."""

    def images(self) -> Iterator[FoundImage]:
        """All image files, sorted by name.

        Raises
        ------
        DatasetError
            When the root is missing or holds no images.
        """

    def image_path(self, name: str) -> Path:
        """The file of an image."""

    def annotation_files(self, name: str) -> list[Path]:
        """The files that `ground_truth` reads for an image; empty when it has none."""

    def ground_truth(self, name: str, image_set: str) -> GroundTruth:
        """The annotation of an image as a member of a set (its object may differ from set to set).

        Raises
        ------
        DatasetError
            When an annotation file is damaged.
        """
