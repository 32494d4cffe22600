"""The rows of one image set: a tall matrix that is read block by block."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import scipy.sparse

Array = NDArray[Any]
Spans = list[tuple[int, int]]

BLOCK_BYTES = 32 * 2**20
# Below it sparse rows take less memory than dense ones (8 bytes a non-zero against 4 a value) and
# are faster to make and to multiply with.
SPARSE_BELOW = 1 / 3


class RowsOfEntries(Protocol):
    """What is asked of the array that the rows come from; see `store.ragged.Ragged`."""

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Entry i owns the rows ``offsets[i]:offsets[i + 1]``."""

    @property
    def image_ids(self) -> NDArray[np.int64]:
        """Which image each entry is."""

    @property
    def names(self) -> Sequence[str]:
        """Image names by image id; may be empty."""

    @property
    def channels(self) -> int:
        """Columns."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values as they are read."""

    @property
    def density(self) -> float:
        """Share of the values that are not zero."""

    @property
    def narrow_dtype(self) -> np.dtype[Any]:
        """The narrowest type that holds them all."""

    def read_dense(self, spans: Spans, dtype: Any = None) -> Array:
        """Rows of several spans, one after the other."""

    def read_sparse(self, spans: Spans) -> scipy.sparse.csr_array:
        """The same as one sparse matrix."""


@dataclass(frozen=True)
class SetRows:
    """All rows of some entries of a `Ragged`: the matrix A of one image set, never whole in memory.

    Looks enough like an array for ``dask.array.from_array``: shape, dtype, and slices of rows.

    Parameters
    ----------
    ragged : RowsOfEntries
        A `Ragged`.
    entries : int64 array [n]
        Positions in `ragged`, in the order the rows are wanted. Ascending ones are read fastest.
    block_rows : int, optional
        Rows per block; by default about 32 MiB of them.
    form : {"dense", "sparse"}
        What blocks are: numpy arrays, or scipy CSR arrays. How they lie on disk does not matter.
    readers : int
        Blocks that are read ahead at once, each by a thread of its own.
    narrow : bool
        Dense blocks have the type that values are stored as, such as float16.
    """

    ragged: RowsOfEntries
    entries: NDArray[np.int64]
    block_rows: int | None = None
    form: Literal["dense", "sparse"] = "dense"
    readers: int = 1
    narrow: bool = False
    ndim = 2

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        """Row of this matrix behind each entry's last, with a leading 0 ``[n + 1]``."""
        sizes = self.ragged.offsets[self.entries + 1] - self.ragged.offsets[self.entries]
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, channels)."""
        return int(self._ends[-1]), self.ragged.channels

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the blocks' values."""
        narrow = self.narrow and self.form == "dense"
        return self.ragged.narrow_dtype if narrow else self.ragged.dtype

    @property
    def density(self) -> float:
        """Share of non-zero values, over the whole layer."""
        return self.ragged.density

    @property
    def nbytes(self) -> int:
        """Bytes all blocks take in memory: counted for dense ones, estimated for sparse ones."""
        rows, channels = self.shape
        if self.form == "dense":
            return rows * channels * self.dtype.itemsize
        return round(rows * channels * self.density) * (4 + self.dtype.itemsize) + 4 * rows

    @property
    def rows_per_block(self) -> int:
        """Rows of each block but the last; as many of narrow ones."""
        size = self.ragged.dtype.itemsize
        return self.block_rows or max(1, BLOCK_BYTES // (self.ragged.channels * size))

    def compact(self) -> SetRows:
        """The same rows in the form that takes less memory: sparse, or dense as they are stored."""
        return replace(self, form="sparse" if self.density < SPARSE_BELOW else "dense", narrow=True)

    def reading(self, readers: int) -> SetRows:
        """The same rows, so many blocks read ahead at once."""
        return replace(self, readers=readers)

    def blocks(self) -> Iterator[Any]:
        """Yield the rows in order, ``[rows, channels]`` each, reading `readers` blocks ahead.

        Yields
        ------
        ndarray or csr_array
            Writable and the caller's own: ``torch.from_numpy`` wraps it without a copy.
        """
        rows, limit = self.shape[0], self.rows_per_block
        if rows <= limit:  # of many small sets, a thread each would take longer than its reading
            if rows:
                yield self.read(0, rows)
            return
        ahead: deque[Future[Any]] = deque()
        with ThreadPoolExecutor(self.readers) as pool:
            for start in range(0, rows, limit):
                ahead.append(pool.submit(self.read, start, min(start + limit, rows)))
                if len(ahead) > self.readers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def __iter__(self) -> Iterator[Any]:
        return self.blocks()

    def __getitem__(self, key: Any) -> Array:
        """Some rows, dense: ``rows[10:20]``, ``rows[10:20, 3]``, as an array would."""
        first, *rest = key if isinstance(key, tuple) else (key,)
        if not isinstance(first, slice):
            raise TypeError("rows are taken by slices, such as rows[10:20]")
        start, stop, step = first.indices(self.shape[0])
        if step != 1:
            raise TypeError("slices of rows have no step")
        found = self.ragged.read_dense(self._spans(start, max(start, stop)), self.dtype)
        return found[(slice(None), *rest)]

    def locate(self, row: int) -> str:
        """Name of the image that owns row `row` of this matrix; its id where names are unknown."""
        entry = int(np.searchsorted(self._ends[1:], row, side="right"))
        image, names = int(self.ragged.image_ids[self.entries[entry]]), self.ragged.names
        return names[image] if image < len(names) else f"image {image}"

    def read(self, start: int, stop: int) -> Array | scipy.sparse.csr_array:
        """Rows ``start:stop`` of this matrix as one block."""
        spans = self._spans(start, stop)
        if self.form == "sparse":
            return self.ragged.read_sparse(spans)
        return self.ragged.read_dense(spans, self.dtype)

    def _spans(self, start: int, stop: int) -> Spans:
        """Where rows ``start:stop`` of this matrix lie on disk; neighbouring entries merge."""
        first, last = np.searchsorted(self._ends[1:], [start, stop], side="right")
        members = self.entries[first : last + 1]
        if not len(members):
            return []
        lows, highs = self.ragged.offsets[members], self.ragged.offsets[members + 1]
        # the first and the last entry may be wanted in part only
        lows = lows + np.maximum(start - self._ends[first : first + len(members)], 0)
        highs = highs - np.maximum(self._ends[first + 1 : first + 1 + len(members)] - stop, 0)
        kept = highs > lows
        lows, highs = lows[kept], highs[kept]
        if not len(lows):
            return []
        breaks = np.flatnonzero(lows[1:] != highs[:-1]) + 1
        bounds = [0, *breaks.tolist(), len(lows)]
        return [(int(lows[one]), int(highs[two - 1])) for one, two in pairwise(bounds)]
