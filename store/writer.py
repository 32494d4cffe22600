"""Writing ragged arrays: front to back, whole shards at a time, resumable at any shard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from store.encoding import ArrayPlan, Counted, Encoded, Images
from store.errors import ArtifactDamaged
from store.layout import Layout, plan_layout
from store.location import PARTIAL, Location
from store.ragged import SCATTERED, STARTS, offsets_of
from store.reading import MEND, where
from store.shards import ShardReader
from store.small import write_array

if TYPE_CHECKING:
    import zarr

    from store.behind import Behind

Array = NDArray[Any]
Flushed = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Background:
    """Threads that encode and store, in order, while the caller goes on appending.

    Attributes
    ----------
    encoders : Executor
        Chunks are encoded side by side.
    storing : Executor
        One thread: `on_flush` is called from it, and writers may share what that changes.
    """

    encoders: Executor
    storing: Executor


class RaggedWriter:
    """Write a `Ragged` front to back, whole shards at a time, resumable at any shard.

    Rows are encoded chunk by chunk as they come, so it holds one chunk of them and one encoded
    shard, whatever the size of the array; with `background` two shards.

    Parameters
    ----------
    group : zarr.Group
        An empty group, or the one a killed writer left behind.
    grid_hw : int array [n, 2]
    image_ids : int array [n]
    channels : int
    dtype : numpy dtype
        Of the rows as they will be read.
    layout : Layout, optional
        By default from `plan_layout`.
    narrow : bool
        Keep float32 values as float16 on disk, chunk by chunk, unless one would become infinite.
    images : {"smooth", "flat"}, optional
        Entries are maps of unsigned integers that change little from pixel to pixel, or not at all
        but for edges: kept column by column, smooth ones as differences (`store.chunk`).
    behind : Behind, optional
        Shards of an earlier array that are there already (`Behind.link`): only the entries of its
        ``tail`` are appended, and `offsets` are of these, on disk.
    handed_over : bool
        Rows that are appended are left as they are by the caller, and need not be copied.
    resume : mapping, optional
        What `on_flush` was given last: the shards it counts are kept.
    on_flush : callable, optional
        Called after each shard that is safely stored, with what a later `resume` needs (JSON);
        its ``rows`` says how many rows are stored.
    background : Background, optional
        Encode and store in threads. An error of theirs is raised by a later `append` or `close`.
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
        narrow: bool = False,
        images: Images | None = None,
        behind: Behind | None = None,
        handed_over: bool = False,
        resume: Flushed | None = None,
        on_flush: Callable[[dict[str, Any]], None] | None = None,
        background: Background | None = None,
    ) -> None:
        appended = np.asarray(grid_hw).reshape(-1, 2)
        if behind:
            appended = appended[behind.tail]
        self.offsets = offsets_of(appended) + (behind.rows if behind else 0)
        self._lines = appended[:, 1]
        in_order = offsets_of(np.asarray(grid_hw))
        # of one that turns out as it is written in order nothing more is to be said
        scattered = behind and (
            self.offsets[-1] != in_order[-1] or not np.array_equal(behind.starts, in_order[:-1])
        )
        self._starts = behind.starts if behind and scattered else None
        self.total_rows = int(self.offsets[-1])
        self.dtype = np.dtype(dtype)
        stored = 2 if narrow else self.dtype.itemsize
        self.layout = layout or plan_layout(self.total_rows, channels * stored)
        resume = {"rows": 0, **(resume or {})}
        self.flushed = int(resume["rows"])
        on_boundary = self.flushed % self.layout.shard_rows == 0 or self.flushed == self.total_rows
        if not (on_boundary and 0 <= self.flushed <= self.total_rows):
            raise ValueError(f"row {self.flushed} is not on a shard boundary of {self.layout}")
        self._counted = Counted.of(resume)
        self._others = False  # whether other processes write shards
        self._position = self._resumed = self.flushed
        self._chunk: Array = np.zeros((self.layout.chunk_rows, channels), self.dtype)
        self._parts: list[Array] | None = [] if handed_over else None
        self._encoded: list[Future[Encoded]] = []
        self._stored: Future[None] | None = None
        self._on_flush = on_flush
        self._background = background
        with Location.of_node(group).answering():
            self._values = self._create(
                group, np.asarray(grid_hw), np.asarray(image_ids), channels, narrow
            )
        self._shards = ShardReader(self._values, lambda first, last: "")
        self._shards.refuse_missing(self.flushed)
        self.plan = ArrayPlan(
            self._shards.location.absolute(),
            self.total_rows,
            channels,
            self.dtype,
            self.layout,
            narrow,
            images,
        )

    def _create(
        self, group: zarr.Group, grid_hw: Array, image_ids: Array, channels: int, narrow: bool
    ) -> zarr.Array[Any]:
        if "values" in group:
            values = cast("zarr.Array[Any]", group["values"])
            if (
                values.shape != (self.total_rows, channels)
                or values.dtype != self.dtype
                or values.shards != (self.layout.shard_rows, channels)
            ):
                raise ArtifactDamaged(f"{where(values)}: not the array that was begun; {MEND}")
            return values
        # here: see `Location.zarr_group`
        from zarr.codecs import Crc32cCodec

        from store.codec import RowsCodec

        # Values come last; a writer killed before that may have left some of the other parts.
        write_array(group, "offsets", offsets_of(grid_hw), ["edge"])
        write_array(group, "grid_hw", grid_hw.astype(np.int32).reshape(-1, 2), ["entry", "side"])
        write_array(group, "image_ids", image_ids.astype(np.int64), ["entry"])
        if self._starts is not None:
            write_array(group, STARTS, self._starts, ["entry"])
        return group.create_array(
            "values",
            shape=(self.total_rows, channels),
            dtype=self.dtype,
            chunks=(self.layout.chunk_rows, channels),
            shards=(self.layout.shard_rows, channels),
            serializer=RowsCodec(narrow=narrow),
            compressors=[Crc32cCodec()],
            # Should another tool read a lost float shard, then as NaN, not as "no concept".
            fill_value=np.nan if self.dtype.kind == "f" else 0,
            dimension_names=["row", "channel"],
            attributes={} if self._starts is None else {SCATTERED: True},
        )

    @property
    def signed(self) -> bool:
        """Whether a value that is stored is below zero."""
        return self._counted.signed

    @property
    def channels(self) -> int:
        """Columns of the array."""
        return int(self._chunk.shape[1])

    def append(self, start: int, rows: Array) -> None:
        """Write ``rows [n, channels]`` whose first is row `start` of the whole array.

        Rows that are already on disk (a resumed run repeats a few) are dropped; a gap is an error.
        They are copied unless they are `handed_over`. With `narrow`, rows may be float16 already:
        the same bytes as if they came as float32, provided that those are finite in float16.
        """
        rows = self.plan.checked(start, rows)
        if start > self._position:
            raise ValueError(f"rows {start}.. after {self._position}: rows are missing between")
        if start < self._position > self._resumed:
            raise ValueError(f"rows {start}.. after {self._position}: rows are there already")
        rows = rows[self._position - start :]
        while len(rows):
            filled = self._position % self.layout.chunk_rows
            part = rows[: self.layout.chunk_rows - filled]
            if self._parts is None:
                self._take_as(part.dtype, filled)
                self._chunk[filled : filled + len(part)] = part
            else:
                self._parts.append(part)
            self._position += len(part)
            rows = rows[len(part) :]
            if filled + len(part) == self.layout.chunk_rows:
                self._encode()

    def written(self, shard: int, counted: Counted) -> None:
        """Take over the next shard, which another process has written (`store.ranges`)."""
        if self._position != self.flushed or shard * self.layout.shard_rows != self.flushed:
            raise ValueError(f"shard {shard} of {self.layout} after {self._position} rows")
        self._others = True
        self._position = self.plan.rows_of(shard)[1]
        self._flushed(counted, self._position)

    def close(self) -> None:
        """Write what is left; every row must have been appended."""
        if self._position != self.total_rows:
            raise ValueError(f"{self._position} of {self.total_rows} rows were written")
        filled = self._position % self.layout.chunk_rows
        if filled and self._position > self.flushed:
            self._chunk = self._chunk[:filled]
            self._encode()
        if self._encoded:
            self._flush()
        if self._stored:
            self._stored.result()
        with self._shards.location.answering():
            self._values.update_attributes(self._counted.record)
        if self._others and self._shards.location.path:
            for leftover in self._shards.location.path.rglob(f"*{PARTIAL}"):  # of who was lost
                leftover.unlink(missing_ok=True)

    def _take_as(self, dtype: np.dtype[Any], filled: int) -> None:
        """Let the chunk being filled be float16 as long as all its rows are, half the bytes."""
        half = self.plan.half(dtype)
        if filled == 0:
            wanted = dtype if half else self.dtype
            if self._chunk.dtype != wanted:
                self._chunk = np.empty(self._chunk.shape, wanted)
        elif self._chunk.dtype != self.dtype and not half:
            self._chunk = self._chunk.astype(self.dtype)

    def _encode(self) -> None:
        executor = self._background.encoders if self._background else None
        parts = [self._chunk] if self._parts is None else self._parts
        stop = self._position
        start = (stop - 1) // self.layout.chunk_rows * self.layout.chunk_rows
        pieces = self.plan.pieces(self.offsets, self._lines, start, stop)
        self._encoded.append(_begun(executor, self.plan.encoded, parts, pieces))
        if self._parts is not None:
            self._parts = []
        elif executor:
            self._chunk = np.empty_like(self._chunk)  # the other is being read
        if len(self._encoded) * self.layout.chunk_rows == self.layout.shard_rows:
            self._flush()

    def _flush(self) -> None:
        if self._stored:
            self._stored.result()  # one shard at a time, or a slow disk would fill the memory
        executor = self._background.storing if self._background else None
        self._stored = _begun(executor, self._store, self._encoded, self._position)
        self._encoded = []

    def _store(self, encoded: Sequence[Future[Encoded]], position: int) -> None:
        """Write the shard that ends before row `position`."""
        shard = self.flushed // self.layout.shard_rows
        counted = self.plan.write_shard(shard, (future.result() for future in encoded))
        self._flushed(counted, position)

    def _flushed(self, counted: Counted, position: int) -> None:
        """A shard is stored."""
        self._counted.add(counted)
        self.flushed = position
        if self._on_flush:
            self._on_flush({"rows": self.flushed, **self._counted.record})


def _begun(executor: Executor | None, work: Callable[..., T], *arguments: Any) -> Future[T]:
    """Work handed to an executor, or done here and now where there is none."""
    if executor:
        return executor.submit(work, *arguments)
    done: Future[T] = Future()
    done.set_result(work(*arguments))
    return done
