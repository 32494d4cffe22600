"""Images of any size in one array: rows plus offsets, nothing padded.

A `Ragged` is a Zarr group of four arrays: ``values [rows, channels]``, ``offsets int64 [n+1]``
(entry i owns the rows ``offsets[i]:offsets[i+1]``), ``grid_hw int32 [n, 2]`` (those rows are an
h x w grid, row-major) and ``image_ids int64 [n]`` (which image entry i is).
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec

from store.errors import ArtifactDamaged
from store.layout import Layout, plan_layout
from store.reading import MEND, local_folder, member, read_span, read_whole, refuse_missing, where
from store.staging import fsync_path

Array = NDArray[Any]


def offsets_of(grid_hw: Array) -> NDArray[np.int64]:
    """Row offsets ``[n+1]`` of entries whose grids are ``grid_hw [n, 2]``."""
    grid = np.asarray(grid_hw, dtype=np.int64).reshape(-1, 2)
    return np.concatenate([[0], np.cumsum(grid[:, 0] * grid[:, 1])]).astype(np.int64)


@dataclass(frozen=True)
class Ragged:
    """Read access to one ragged array (see the module's docstring for its four parts)."""

    values: "zarr.Array[Any]"
    offsets: NDArray[np.int64]
    grid_hw: NDArray[np.int32]
    image_ids: NDArray[np.int64]

    @classmethod
    def open(cls, group: zarr.Group) -> "Ragged":
        """Open the ragged array that lives in `group`.

        Raises
        ------
        ArtifactDamaged
            When a part is gone, fails its checksum, or does not agree with the others.
        """
        ragged = cls(
            values=member(group, "values"),
            offsets=read_whole(group, "offsets"),
            grid_hw=read_whole(group, "grid_hw"),
            image_ids=read_whole(group, "image_ids"),
        )
        entries, rows = len(ragged.grid_hw), int(ragged.offsets[-1])
        if (
            not np.array_equal(ragged.offsets, offsets_of(ragged.grid_hw))
            or len(ragged.image_ids) != entries
            or ragged.values.shape[0] != rows
        ):
            raise ArtifactDamaged(
                f"{where(ragged.values)}: {ragged.values.shape[0]} rows, but the offsets and "
                f"grids of its {entries} entries say {rows}; {MEND}"
            )
        return ragged

    def __len__(self) -> int:
        return len(self.grid_hw)

    @property
    def channels(self) -> int:
        """Columns of ``values``."""
        return int(self.values.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored values."""
        return np.dtype(self.values.dtype)

    @cached_property
    def nbytes_stored(self) -> int:
        """Bytes the values take on disk, compressed."""
        return int(self.values.nbytes_stored())

    def rows(self, start: int, stop: int) -> Array:
        """Rows ``start:stop`` of the values, ``[stop - start, channels]``.

        Raises
        ------
        ArtifactDamaged
            When a checksum does not match or a file is gone; the line names the array and the rows.
        """
        return read_span(self.values, start, stop)

    def map(self, entry: int) -> Array:
        """Entry `entry` as an ``[h, w, channels]`` array."""
        entry = range(len(self))[entry]  # -1 is the last; too large is an IndexError
        h, w = (int(side) for side in self.grid_hw[entry])
        return self.rows(*self._span(entry)).reshape(h, w, self.channels)

    def _span(self, entry: int) -> tuple[int, int]:
        return int(self.offsets[entry]), int(self.offsets[entry + 1])

    def select(self, entries: Sequence[int] | Array, block_rows: int | None = None) -> "SetRows":
        """The rows of some entries, in that order, as one tall matrix read block by block."""
        wanted = np.asarray(entries, dtype=np.int64)
        if wanted.size and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"entries {wanted.min()} to {wanted.max()}: there are {len(self)}")
        if block_rows is not None and block_rows < 1:
            raise ValueError(f"block_rows is {block_rows}, must be at least 1")
        return SetRows(self, wanted, block_rows)


@dataclass(frozen=True)
class SetRows:
    """All rows of some entries of a `Ragged`: the matrix A of one image set, never whole in memory.

    Parameters
    ----------
    ragged : Ragged
    entries : int64 array [n]
        Positions in `ragged`, in the order the rows are wanted.
    block_rows : int, optional
        Rows per block; by default about 32 MiB of them.
    """

    ragged: Ragged
    entries: NDArray[np.int64]
    block_rows: int | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, channels)."""
        sizes = self.ragged.offsets[self.entries + 1] - self.ragged.offsets[self.entries]
        return int(sizes.sum()), self.ragged.channels

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the blocks."""
        return self.ragged.dtype

    def blocks(self) -> Iterator[Array]:
        """Yield the rows in order as ``[rows, channels]`` arrays, reading one block ahead."""
        spans = list(self._block_spans())
        if not spans:
            return
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self._read_block, spans[0])
            for following in [*spans[1:], None]:
                block = ahead.result()
                if following is not None:
                    ahead = reader.submit(self._read_block, following)
                yield block

    def locate(self, row: int) -> int:
        """Image id of the image that owns row `row` of this matrix."""
        sizes = self.ragged.offsets[self.entries + 1] - self.ragged.offsets[self.entries]
        entry = int(np.searchsorted(np.cumsum(sizes), row, side="right"))
        return int(self.ragged.image_ids[self.entries[entry]])

    def _read_block(self, spans: list[tuple[int, int]]) -> Array:
        parts = [self.ragged.rows(start, stop) for start, stop in spans]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _block_spans(self) -> Iterator[list[tuple[int, int]]]:
        """Row spans of each block: neighbouring entries merge into one read."""
        row_bytes = self.ragged.channels * self.ragged.dtype.itemsize
        limit = self.block_rows or max(1, 32 * 2**20 // row_bytes)
        block: list[tuple[int, int]] = []
        room = limit
        for start, stop in self._runs():
            while start < stop:
                cut = min(stop, start + room)
                block.append((start, cut))
                room -= cut - start
                start = cut
                if room == 0:
                    yield block
                    block, room = [], limit
        if block:
            yield block

    def _runs(self) -> Iterator[tuple[int, int]]:
        if not len(self.entries):
            return
        breaks = np.flatnonzero(np.diff(self.entries) != 1) + 1
        bounds = [0, *breaks.tolist(), len(self.entries)]
        for first, last in pairwise(bounds):
            yield (
                int(self.ragged.offsets[self.entries[first]]),
                int(self.ragged.offsets[self.entries[last - 1] + 1]),
            )


class RaggedWriter:
    """Write a `Ragged` front to back, whole shards at a time, resumable at any shard.

    Parameters
    ----------
    group : zarr.Group
        An empty group, or the one a killed writer left behind.
    grid_hw : int array [n, 2]
    image_ids : int array [n]
    channels : int
    dtype : numpy dtype
    layout : Layout, optional
        By default from `plan_layout`.
    resume_row : int
        Rows already on disk, as the progress record says; must lie on a shard boundary.
    on_flush : callable, optional
        Called with the number of rows safely on disk after each shard.
    """

    def __init__(
        self,
        group: zarr.Group,
        grid_hw: Array,
        image_ids: Array,
        channels: int,
        dtype: Any,
        *,
        layout: Layout | None = None,
        resume_row: int = 0,
        on_flush: Callable[[int], None] | None = None,
    ) -> None:
        self.offsets = offsets_of(grid_hw)
        self.total_rows = int(self.offsets[-1])
        self.dtype = np.dtype(dtype)
        self.layout = layout or plan_layout(self.total_rows, channels * self.dtype.itemsize)
        on_boundary = resume_row % self.layout.shard_rows == 0 or resume_row == self.total_rows
        if not (on_boundary and 0 <= resume_row <= self.total_rows):
            raise ValueError(f"resume_row {resume_row} is not on a shard boundary of {self.layout}")
        self.flushed = resume_row
        self._position = resume_row
        self._pending: list[Array] = []
        self._on_flush = on_flush
        self._values = self._create(group, np.asarray(grid_hw), np.asarray(image_ids), channels)
        self._folder = local_folder(self._values)
        refuse_missing(self._values, 0, resume_row)

    def _create(
        self, group: zarr.Group, grid_hw: Array, image_ids: Array, channels: int
    ) -> "zarr.Array[Any]":
        if "values" in group:
            values = cast("zarr.Array[Any]", group["values"])
            if values.shape != (self.total_rows, channels) or values.dtype != self.dtype:
                raise ArtifactDamaged(f"{where(values)}: not the array that was begun; {MEND}")
            return values
        # Values come last; a writer killed before that may have left some of the other parts.
        for name, part in (
            ("offsets", self.offsets),
            ("grid_hw", grid_hw.astype(np.int32).reshape(-1, 2)),
            ("image_ids", image_ids.astype(np.int64)),
        ):
            group.create_array(
                name,
                data=part,
                compressors=[ZstdCodec(level=3), Crc32cCodec()],
                overwrite=True,
                config={"write_empty_chunks": True},
            )
        return group.create_array(
            "values",
            shape=(self.total_rows, channels),
            dtype=self.dtype,
            chunks=(self.layout.chunk_rows, channels),
            shards=(self.layout.shard_rows, channels),
            compressors=[ZstdCodec(level=3), Crc32cCodec()],
            # Should a lost float shard ever be read, then as NaN, which the solver refuses, not as
            # "no concept"; see also `refuse_missing`.
            fill_value=np.nan if self.dtype.kind == "f" else 0,
            config={"write_empty_chunks": True},
        )

    def append(self, start: int, rows: Array) -> None:
        """Write ``rows [n, channels]`` whose first is row `start` of the whole array.

        Rows that are already on disk (a resumed run repeats a few) are dropped; a gap is an error.
        """
        rows = np.asarray(rows)
        if rows.ndim != 2 or rows.shape[1] != self._values.shape[1]:
            raise ValueError(f"rows are {rows.shape}, the array is {self._values.shape}")
        if start < 0 or start + len(rows) > self.total_rows:
            raise ValueError(f"rows {start} to {start + len(rows)} of {self.total_rows}")
        if start > self._position:
            raise ValueError(f"rows {start}.. after {self._position}: rows are missing between")
        rows = rows[self._position - start :]
        if not len(rows):
            return
        self._pending.append(np.array(rows, dtype=self.dtype))  # the caller may reuse its own
        self._position += len(rows)
        while self._position - self.flushed >= self.layout.shard_rows:
            self._flush(self.layout.shard_rows)

    def close(self) -> None:
        """Write what is left; every row must have been appended."""
        if self._position != self.total_rows:
            raise ValueError(f"{self._position} of {self.total_rows} rows were written")
        if self._position > self.flushed:
            self._flush(self._position - self.flushed)

    def _flush(self, count: int) -> None:
        pending = np.concatenate(self._pending) if len(self._pending) > 1 else self._pending[0]
        shard = self.flushed // self.layout.shard_rows
        self._values[self.flushed : self.flushed + count] = pending[:count]
        if self._folder is not None:
            # The file, and every folder whose entry leads to it.
            for path in (Path("c", str(shard), "0"), Path("c", str(shard)), Path("c"), Path()):
                fsync_path(self._folder / path)
        self._pending = [pending[count:]] if count < len(pending) else []
        self.flushed += count
        if self._on_flush:
            self._on_flush(self.flushed)
