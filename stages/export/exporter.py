"""The protocol that every format of `dff export` follows, and what it gets.

To add a format: one module with a class that has the four methods of `Exporter`, and its name in
`stages.export.formats.EXPORTERS`. It is a dataclass; its fields are the format's options, with
defaults, and are given by the flags of the same names (``--semantic``, ``--polygons``, ``--heat``,
``--images``). `tests/stages/test_export.py` runs over the registry: give it a function that reads
the format back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.concept_maps import resized_columns
from stages.export.regions import Mask, Region, components, whole


@dataclass(frozen=True)
class Photograph:
    """An image, before its maps are read.

    Attributes
    ----------
    number : int
        0 for the first of the export.
    name : str
        As the index has it: below the collection's root, with forward slashes. Any text at all.
    path : str
        Where its files may lie in the export, without suffix: no other image's, and inside.
    file : Path
        The photograph itself.
    size : (height, width)
        Of the photograph as a person sees it (EXIF orientation applied).
    """

    number: int
    name: str
    path: str
    file: Path
    size: tuple[int, int]


@dataclass(frozen=True)
class Catalogue:
    """What an export is of.

    Attributes
    ----------
    categories : sequence of str
        Names of concepts, all different, in any alphabet. `Concept.category` is a position here.
    photographs : sequence of Photograph
        In the order in which they are added.
    target : Path
        Where the export will be; until it is complete its files lie in another folder.
    """

    categories: Sequence[str]
    photographs: Sequence[Photograph]
    target: Path


@dataclass(frozen=True, eq=False)
class Concept:
    """One concept on one image.

    Attributes
    ----------
    category : int
    name : str
        ``Catalogue.categories[category]``.
    mask : bool [h, w]
        At the photograph's size. May be empty.
    levels : uint8 or uint16 [map h, map w, n]
        The maps as stored, one for each factor of this name.
    least_area : float
        Components with a smaller share of the image are left out of `regions`.
    """

    category: int
    name: str
    mask: Mask
    levels: NDArray[np.unsignedinteger]
    least_area: float

    def heat(self) -> NDArray[np.float32]:
        """Shares in [0, 1] at the photograph's size ``[h, w]``; computed when asked for, not kept.

        Of several factors of one name the largest share.
        """
        from stages.algorithms.heatmap import dequantise

        shares = resized_columns(dequantise(self.levels), self.mask.shape)
        return np.asarray(shares.max(axis=0))

    @cached_property
    def strength(self) -> tuple[float, float]:
        """Mean and largest share over the image, of the maps at their own size."""
        from stages.algorithms.heatmap import dequantise

        shares = dequantise(self.levels).max(axis=2)
        return float(shares.mean(dtype=np.float64)), float(shares.max())

    @cached_property
    def components(self) -> list[Region]:
        """The mask's 8-connected components, largest first."""
        return components(self.mask, self.least_area * self.mask.size)

    def regions(self, semantic: bool) -> list[Region]:
        """What counts as one thing: the whole mask, or each of its components."""
        if not semantic:
            return self.components
        return [all_of_it] if (all_of_it := whole(self.mask)) else []

    def scores(self, regions: Sequence[Region]) -> list[float]:
        """Mean share of the heat map over each region."""
        if not regions:
            return []
        heat = self.heat()
        means = (heat[one.window][one.mask].mean(dtype=np.float64) for one in regions)
        return [round(float(mean), 6) for mean in means]


@dataclass(frozen=True, eq=False)
class Picture:
    """One image with the concepts of its sets; those of other sets are not in it."""

    photograph: Photograph
    concepts: Sequence[Concept]


class Exporter(Protocol):
    """A format.

    Attributes
    ----------
    summary : str
        One line for the command's help.
    stay : tuple of str, optional
        Attributes that `encode` does not use and that cannot be sent to other processes: open
        files and what writes to them.
    """

    summary: ClassVar[str]

    def open(self, folder: Path, catalogue: Catalogue) -> None:
        """Begin in an empty folder.

        Raises
        ------
        StageError
            When the format cannot hold this, such as too many categories.
        """

    def encode(self, picture: Picture) -> Any:
        """Turn one image into what `add` takes; called by several threads or processes, in any
        order.

        This is where the work is done. Files of this image alone may be written here; nothing of
        the exporter may be changed. Keep the result small: some wait for their turn.
        """

    def add(self, encoded: Any) -> None:
        """Take over one image's result; in the order of the photographs, one at a time."""

    def close(self) -> None:
        """Write what is left; after a failure, when all is thrown away, too."""
