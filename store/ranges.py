"""Ragged arrays by many processes: each makes the rows of a range, each shard has one writer.

Ranges of entries are cut without regard to chunks and shards. What a worker made of one, an
`EncodedRange`, has its whole chunks encoded, and the rows at its ends, whose chunks neighbours
share, as they are. Whoever writes a shard joins those, and writes the same bytes as a
`RaggedWriter` that gets all rows. That one creates the array, and is told of each shard
(`written`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from store.encoding import ArrayPlan, Counted, Encoded
from store.ragged import offsets_of

Array = NDArray[Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Edge:
    """Rows of a chunk that a range has a share of, from row `start` of the array on.

    Attributes
    ----------
    rows : tuple of arrays [n, channels]
    pieces : list of (rows, pixels of a line)
        Of smooth images: see `store.chunk`.
    """

    start: int
    rows: tuple[Array, ...]
    pieces: list[tuple[int, int]]

    @property
    def stop(self) -> int:
        """One past its last row."""
        return self.start + sum(map(len, self.rows))


@dataclass(frozen=True)
class EncodedRange:
    """The rows ``start:stop`` of an array, as chunks by number."""

    start: int
    stop: int
    chunks: Mapping[int, Encoded | Edge]

    def __sizeof__(self) -> int:
        """Bytes, by which a cluster's workers know how full they are."""
        return sum(
            sum(rows.nbytes for rows in one.rows) if isinstance(one, Edge) else len(one.content)
            for one in self.chunks.values()
        )


class RangeWriter:
    """Make the `EncodedRange` of some entries; gets their rows as a `RaggedWriter` does.

    Parameters
    ----------
    plan : ArrayPlan
        Of the array: `RaggedWriter.plan`.
    start : int
        Row of the array at which the entries begin.
    grid_hw : int array [n, 2]
        Theirs.
    handed_over : bool
        Rows that are appended are left as they are by the caller, and need not be copied.
    """

    def __init__(
        self, plan: ArrayPlan, start: int, grid_hw: Array, *, handed_over: bool = False
    ) -> None:
        grid_hw = np.asarray(grid_hw).reshape(-1, 2)
        self.plan = plan
        self.offsets = start + offsets_of(grid_hw)
        self._lines, self._handed_over = grid_hw[:, 1], handed_over
        self._start = self._position = start
        self._rows: list[Array] = []  # of the chunk that is not full yet
        self._chunks: dict[int, Encoded | Edge] = {}

    @property
    def flushed(self) -> int:
        """Rows of the array before these; none of its own is stored."""
        return self._start

    @property
    def channels(self) -> int:
        """Columns of the array."""
        return self.plan.channels

    def append(self, start: int, rows: Array) -> None:
        """Add ``rows [n, channels]`` whose first is row `start` of the array, the next in line."""
        rows = self.plan.checked(start, rows)
        if start != self._position or start + len(rows) > self.offsets[-1]:
            raise ValueError(
                f"rows {start} to {start + len(rows)} after {self._position}, up to "
                f"{self.offsets[-1]}"
            )
        size = self.plan.layout.chunk_rows
        while len(rows):
            some = rows[: size - self._position % size]
            if not self._handed_over:
                some = some.astype(some.dtype if self.plan.half(some.dtype) else self.plan.dtype)
            self._rows.append(some)
            self._position += len(some)
            rows = rows[len(some) :]
            if self._position % size == 0:
                self._finish_chunk()

    def close(self) -> None:
        """Every row must have been appended."""
        if self._position != self.offsets[-1]:
            raise ValueError(f"rows {self._position} to {self.offsets[-1]} are missing")
        if self._rows:
            self._finish_chunk()

    @property
    def encoded(self) -> EncodedRange:
        """What was made, once it is closed."""
        return EncodedRange(self._start, self._position, self._chunks)

    def _finish_chunk(self) -> None:
        size, stop = self.plan.layout.chunk_rows, self._position
        number = (stop - 1) // size
        start = max(number * size, self._start)
        pieces = self.plan.pieces(self.offsets, self._lines, start, stop)
        if stop - start == size:
            self._chunks[number] = self.plan.encoded(self._rows, pieces)
        else:
            self._chunks[number] = Edge(start, tuple(self._rows), pieces)
        self._rows = []


@dataclass
class NextShards(Generic[T]):
    """The shards of an array that are to be written, and what was made for them so far.

    Attributes
    ----------
    plan : ArrayPlan
    shard : int
        The first that is not written.
    """

    plan: ArrayPlan
    shard: int
    _made: deque[tuple[int, int, T]] = field(default_factory=deque)

    @classmethod
    def after(cls, plan: ArrayPlan, rows: int) -> NextShards[T]:
        """Those behind so many rows, which are whole shards or all there are."""
        return cls(plan, -(-rows // plan.layout.shard_rows))

    def complete(self, start: int, stop: int, made: T) -> Iterator[tuple[int, list[T]]]:
        """Take what was made of the rows ``start:stop``, the next ones; yields each shard whose
        rows are all there now, with all that has some of them."""
        if stop > max(start, self.plan.rows_of(self.shard)[0]):
            self._made.append((start, stop, made))
        while self.shard < self.plan.shards and stop >= (end := self.plan.rows_of(self.shard)[1]):
            yield self.shard, [one for begin, _, one in self._made if begin < end]
            self.shard += 1
            while self._made and self._made[0][1] <= end:
                self._made.popleft()  # and its rows may go


def write_shard(plan: ArrayPlan, shard: int, ranges: Sequence[EncodedRange]) -> Counted:
    """Write one shard from the ranges that have rows of it, in any order.

    Returns
    -------
    Counted
        For `RaggedWriter.written`.

    Raises
    ------
    ValueError
        When rows are missing, or there twice.
    """
    return plan.write_shard(shard, _chunks(plan, shard, sorted(ranges, key=lambda one: one.start)))


def _chunks(plan: ArrayPlan, shard: int, ranges: Sequence[EncodedRange]) -> Iterator[Encoded]:
    start, stop = plan.rows_of(shard)
    size = plan.layout.chunk_rows
    for number in range(start // size, -(-stop // size)):
        found = [one.chunks[number] for one in ranges if number in one.chunks]
        whole = [one for one in found if not isinstance(one, Edge)]
        edges = [one for one in found if isinstance(one, Edge)]
        if len(whole) == len(found) == 1:
            yield whole[0]
            continue
        ends = [number * size, *(edge.stop for edge in edges)]
        if (
            whole
            or [edge.start for edge in edges] != ends[:-1]
            or ends[-1] != min(ends[0] + size, stop)
        ):
            raise ValueError(f"shard {shard}: rows {ends[0]} to {ends[0] + size} are not all there")
        rows = [rows for edge in edges for rows in edge.rows]
        yield plan.encoded(rows, [piece for edge in edges for piece in edge.pieces])
