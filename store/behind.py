"""Arrays that grow: whole shards of an earlier one are linked, new rows are written behind them.

Entries keep the order that an array made from nothing has; where their rows begin on disk is said
by ``starts int64 [n]``. Rows in the linked shards that are no entry's any more are dead. An array
that has too many of these, or whose entries lie too scattered, is written anew, in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from store.errors import StoreError
from store.layout import Layout
from store.location import Location
from store.ragged import Ragged, offsets_of

if TYPE_CHECKING:
    import zarr

# Of the rows in linked shards at most so many may be dead...
DEAD = 0.2
# ... and so many of the entries may lie elsewhere than behind the one before them: each is a read
# of its own, which takes a chunk of a few neighbours that nobody asked for.
SEEKS = 0.25


@dataclass(frozen=True)
class Behind:
    """Where the entries of a new array lie, some of them in shards of an earlier one.

    Attributes
    ----------
    source : Ragged
        The earlier array.
    rows : int
        Rows of the shards that are linked.
    starts : int64 [entries]
        Where the rows of each entry begin.
    tail : int64 [m]
        The entries that are written anew, behind those shards and in this order.
    taken : int64 [n - m]
        The entries of the source whose rows are those of the others.
    """

    source: Ragged
    rows: int
    starts: NDArray[np.int64]
    tail: NDArray[np.int64]
    taken: NDArray[np.int64]

    def link(self, group: zarr.Group) -> dict[str, Any]:
        """Put the shards into the group of the new array; where a `RaggedWriter` then resumes.

        Raises
        ------
        StoreError
            When the earlier array cannot be read.
        """
        place = Location.of_node(group) / "values"
        shards = self.source.shards
        for number in range(self.rows // shards.shard_rows):
            (place / shards.key(number)).take(shards.location / shards.key(number))
        dtype, chunks = self.source.narrow_dtype.name, self.rows // shards.chunk_rows
        return {
            "rows": self.rows,
            "nonzeros": self._nonzeros(),
            "stored_dtypes": {dtype: chunks},
            "signed": self.source.signed,
        }

    def _nonzeros(self) -> int:
        """Values in living rows of the linked shards that are not zero.

        They are all that the source counted but for those of its entries that are not linked, few
        of which there are.
        """
        others = np.setdiff1d(np.arange(len(self.source)), self.taken)
        found = self.source.nonzeros
        for block in self.source.select(others).blocks():
            found -= int(np.count_nonzero(block))
        return found


def digest_of(arrays: Sequence[Behind]) -> str:
    """What a run that is resumed must find again: where each entry lies."""
    found = sha256()
    for one in arrays:
        found.update(np.int64(one.rows).tobytes() + one.starts.tobytes() + one.tail.tobytes())
    return found.hexdigest()


def plan_behind(
    sources: Sequence[Ragged],
    entries: NDArray[np.int64],
    grids: Sequence[NDArray[Any]],
    layouts: Sequence[Layout],
) -> list[Behind]:
    """How new arrays, one entry each of the same things, can go on from earlier ones.

    Parameters
    ----------
    sources : sequence of Ragged
        The earlier arrays, one for each.
    entries : int64 [n]
        The earlier entry of each new one, whose rows are the same; -1: it has none.
    grids : sequence of int arrays [n, 2]
        Of the entries in each array.
    layouts : sequence of Layout
        Of the new arrays. Shards of another layout cannot be linked.

    Returns
    -------
    list of Behind
        With the same ``tail``; empty when they are better, or can only be, written anew.
    """
    linked = entries >= 0
    first = np.unique(entries[linked], return_index=True)[1]
    once = np.zeros(len(entries), np.bool_)
    once[np.flatnonzero(linked)[first]] = True  # of equal images one: no rows are two entries'
    linked &= once
    for source, layout in zip(sources, layouts, strict=True):
        if not _fits(source, layout):
            return []
        whole = source.values.shape[0] // layout.shard_rows * layout.shard_rows
        linked &= source.ends[entries] <= whole
    if not linked.any():
        return []
    gone = len(np.unique(entries[entries >= 0])) < len(sources[0])
    if gone and any(source.signed for source in sources):
        return []  # they may have been the only ones with values below zero
    return _behind(sources, entries, grids, layouts, linked)


def _fits(source: Ragged, layout: Layout) -> bool:
    """Whether whole shards of an array can be those of one of this layout."""
    try:
        shards = source.shards
        same = (shards.chunk_rows, shards.shard_rows) == (layout.chunk_rows, layout.shard_rows)
        if not (same and source.counted and len(source.stored_dtypes) == 1):
            return False
        shards.refuse_missing(source.values.shape[0])
    except StoreError:
        return False
    return True


def _behind(
    sources: Sequence[Ragged],
    entries: NDArray[np.int64],
    grids: Sequence[NDArray[Any]],
    layouts: Sequence[Layout],
    linked: NDArray[np.bool_],
) -> list[Behind]:
    tail, found = np.flatnonzero(~linked), []
    for source, grid_hw, layout in zip(sources, grids, layouts, strict=True):
        there, size = entries[linked], layout.shard_rows
        rows = -(-int(source.ends[there].max()) // size) * size
        sizes = np.diff(offsets_of(grid_hw))
        starts = np.empty(len(entries), np.int64)
        starts[linked] = source.starts[there]
        starts[tail] = rows + offsets_of(grid_hw[tail])[:-1]
        dead = rows - int(sizes[linked].sum())
        seeks = int((starts[1:] != (starts + sizes)[:-1]).sum())
        if dead > DEAD * rows or seeks > SEEKS * len(starts):
            return []
        found.append(Behind(source, rows, starts, tail, there))
    return found
