"""How large everything is: known from artifacts, or foretold from params before anything runs.

Each stage adds what its artifact will have; what it needs follows from what is there. So the same
sums serve a run, which refuses what does not fit, and `dff plan`, before there is any artifact.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Shapes = NDArray[np.int64]  # [n, (height, width)]


@dataclass(frozen=True)
class LayerOutline:
    """Activations of one layer.

    Attributes
    ----------
    grids : int64 [images, sizes, 2]
        By image id, at each size at which the network sees an image; ``[images, 2]`` of one.
    channels : int
    density : float
        Share of non-zeros; 1 while it is not known.
    """

    grids: Shapes
    channels: int
    density: float = 1.0

    def rows(self, image_ids: Sequence[int] | NDArray[np.int64] | None = None) -> int:
        """Rows of these images, or of all."""
        chosen = self.grids if image_ids is None else self.grids[np.asarray(image_ids, np.int64)]
        return int(chosen.prod(axis=-1).sum())

    @property
    def several(self) -> bool:
        """Whether there are several sizes."""
        return self.grids.ndim == 3 and self.grids.shape[1] > 1

    @property
    def finest(self) -> "LayerOutline":
        """The same at the largest size alone: the grids of maps."""
        return replace(self, grids=self.grids[:, -1]) if self.grids.ndim == 3 else self


@dataclass(frozen=True)
class Outline:
    """Sizes of what the stages make; what is empty is not known yet.

    Attributes
    ----------
    sizes : int64 [images, 2]
        Of the photographs, by image id.
    file_bytes : int
        Of all photographs together.
    sets : mapping of set name to image ids
    inputs : int64 [images, 2]
        Sizes at which the network sees the photographs.
    layers : mapping of layer to LayerOutline
    columns : int
        Factors of all k and seeds.
    maps : int64 [images, 2]
        Sizes of heat maps.
    heat_bytes : int
        What is read, at all layers, for all heat maps: these, or what they are drawn from.
    network : (backbone, weights) or None
        As `load_backbone` takes them, or as params have them.
    """

    sizes: Shapes = field(default_factory=lambda: np.empty((0, 2), np.int64))
    file_bytes: int = 0
    sets: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    inputs: Shapes = field(default_factory=lambda: np.empty((0, 2), np.int64))
    layers: Mapping[str, LayerOutline] = field(default_factory=dict)
    columns: int = 0
    maps: Shapes = field(default_factory=lambda: np.empty((0, 2), np.int64))
    heat_bytes: int = 0
    network: tuple[str, str] | None = None

    @property
    def images(self) -> int:
        """Number of photographs."""
        return len(self.sizes)

    @cached_property
    def members(self) -> NDArray[np.int64]:
        """Image ids of every (set, image) pair, in order."""
        return np.concatenate([np.empty(0, np.int64), *self.sets.values()])

    @property
    def largest_photograph(self) -> int:
        """Pixels."""
        return most_pixels(self.sizes)

    @property
    def largest_map(self) -> int:
        """Pixels."""
        return most_pixels(self.maps)

    def map_values(self) -> int:
        """Values of all heat maps of one layer: pixels of every pair times columns."""
        return int(self.maps[self.members].prod(axis=1).sum()) * self.columns


def most_pixels(sizes: Shapes) -> int:
    """Pixels of the largest of some sizes."""
    return int(sizes.prod(axis=1).max(initial=1)) if len(sizes) else 1
