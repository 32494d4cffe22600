"""Maps of concepts on images, as heatmaps and refine write them and evaluate and report read them.

Both artifacts have one shape. Per layer:

- ``maps``: a ragged array, one entry per (set, image), one column per (k, seed, factor), uint16 or
  uint8. A value v stands for the share ``v / 65535`` (``v / 255``) of what the map can reach: of
  the factor's largest value in the set, or of a probability of 1.
- ``masks``: a ragged array of the same rows, uint8: the masks as bits, column c in bit ``c % 8`` of
  byte ``c // 8``. A mask is where the exact map, before it became a whole number, reaches its
  threshold; a threshold of 0 (a concept that is absent from most of the set) gives an empty mask.
- ``thresholds``: float64 ``[sets, columns]``, shares.
- ``boxes``: the masks' connected components, see `ConceptMaps.boxes`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import psutil
from numpy.typing import NDArray

from stages.algorithms.masks import resize_masks, unpack_masks
from stages.frame.errors import StageError
from stages.frame.resources import Resources
from store import Artifact, Ragged

# A quarter of the store's usual shard: refining what fits takes seconds, and a crash costs a shard.
SHARD_BYTES = 16 * 2**20
# What one value needs while it is written: float32, its whole number, the mask as bytes, and the
# float64 and int32 of one column while components are found.
FINISH_BYTES = 4 + 2 + 1 + 4
SIDES = ("top", "left", "bottom", "right")


@dataclass(frozen=True)
class ConceptMaps:
    """The maps of one layer, open for reading."""

    artifact: Artifact
    layer: str

    @cached_property
    def maps(self) -> Ragged:
        """One entry per (set, image), ``[h, w, columns]`` whole numbers."""
        return self.artifact.ragged(self.layer)

    @cached_property
    def bits(self) -> Ragged:
        """The masks as bits, entries as in `maps`."""
        return self.artifact.ragged(self.layer, "masks")

    @cached_property
    def thresholds(self) -> NDArray[np.float64]:
        """``[sets, columns]``, shares."""
        return self.artifact.layer_array(self.layer, "thresholds")

    @cached_property
    def columns(self) -> list[tuple[int, int, int]]:
        """(k, seed, factor) of each column."""
        return [tuple(column) for column in self.artifact.attrs["columns"]]

    def columns_of(self, k: int, seed: int) -> list[int]:
        """Columns of one factorization, strongest factor first."""
        return [i for i, column in enumerate(self.columns) if column[:2] == (k, seed)]

    def shares(self, entry: int, size: tuple[int, int] | None = None) -> NDArray[np.float32]:
        """One entry's maps in [0, 1], float32 ``[columns, h, w]``, at their own or another size."""
        from stages.algorithms.heatmap import dequantise

        return resized_columns(dequantise(self.maps.map(entry)), size)

    def masks(self, entry: int, size: tuple[int, int] | None = None) -> NDArray[np.bool_]:
        """Masks of one entry, bool ``[columns, h, w]``, at their own or another size."""
        bits = self.bits.map(entry)
        sized = bits if size is None else resize_masks(bits, size)
        return np.ascontiguousarray(np.moveaxis(unpack_masks(sized, len(self.columns)), -1, 0))

    @cached_property
    def boxes(self) -> pd.DataFrame:
        """Boxes around the masks' 8-connected components.

        One row per component: ``entry`` and ``column`` of the mask; ``rank``, 0 for the mask's
        largest; ``top, left, bottom, right`` in 0-based pixels of the map, half-open; ``area`` in
        pixels of the map; ``score``, the map's mean share over the component.
        """
        found = self.artifact.layer_array(self.layer, "boxes")
        table = pd.DataFrame(found, columns=["entry", "column", "rank", *SIDES, "area"])
        return table.assign(score=self.artifact.layer_array(self.layer, "box_scores"))


def resized_columns(
    values: NDArray[np.float32], size: tuple[int, int] | None
) -> NDArray[np.float32]:
    """Float32 ``[h, w, columns]`` as ``[columns, h, w]`` at the same or another size."""
    import torch

    from stages.algorithms.heatmap import upsample

    h, w, columns = values.shape
    rows = torch.from_numpy(values.reshape(-1, columns))
    return upsample(rows, (h, w), size or (h, w)).numpy()


def workers_within(
    resources: Resources,
    sizes: Sequence[tuple[int, int]],
    columns: int,
    value_bytes: int,
    image_bytes: int = 0,
) -> int:
    """How many maps may be in work at once, so that they stay within the memory budget.

    Parameters
    ----------
    value_bytes : int
        What one value of one map needs at the worst moment, temporaries included, besides what
        writing takes.
    image_bytes : int
        What one image needs besides.

    Raises
    ------
    StageError
        When not even one fits; the line gives both numbers.
    """
    values = max((h * w for h, w in sizes), default=1) * columns
    # `ordered_map` has up to two results per worker under way, and those that wait to be written
    # are two more; the writer holds a shard twice.
    maps_bytes = values * (value_bytes + 2 * FINISH_BYTES)
    each = maps_bytes + image_bytes
    fixed = _resident() + 2 * SHARD_BYTES
    fitting = (resources.memory - fixed) // each
    if fitting < 1:
        remedy = (
            "lower heatmaps.long_side, ask for fewer k and seeds"
            if maps_bytes >= image_bytes
            else "make the largest photographs smaller, lower refine.working_side"
        )
        raise StageError(
            f"the largest image needs about {_mib(fixed + each)} MiB ({_mib(fixed)} for libraries "
            f"and shards, {_mib(maps_bytes)} for its maps, {_mib(image_bytes)} for its pixels and "
            f"what is computed from them), the budget is {_mib(resources.memory)} MiB: {remedy}, "
            "or raise --memory"
        )
    return min(resources.workers, int(fitting))


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f}"


def _resident() -> int:
    """Bytes of this process before its work, with all libraries loaded."""
    import torch  # noqa: F401 (most of them)

    return int(psutil.Process().memory_info().rss)


def entry_sets(artifact: Artifact) -> list[list[int]]:
    """Each set's entries, in the order of the sets."""
    return [entries.tolist() for entries in artifact.sets.values()]


def inherited_attrs(artifact: Artifact) -> dict[str, Any]:
    """What an artifact of maps takes over from the one it is made from."""
    return {
        "layers": artifact.layers,
        "images": artifact.images,
        "contents": artifact.attrs.get("contents"),
        "sets": artifact.sets,
        "problems": artifact.attrs["problems"],
        "columns": artifact.attrs["columns"],
    }
