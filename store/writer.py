"""Writing ragged arrays: front to back, whole shards at a time, resumable at any shard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from store.chunk import Chunk, Pieces, encode
from store.errors import ArtifactDamaged
from store.layout import Layout, plan_layout
from store.location import Location
from store.ragged import SCATTERED, STARTS, offsets_of
from store.reading import MEND, where
from store.shards import ShardReader, index_of, with_checksum
from store.small import write_array

if TYPE_CHECKING:
    import zarr

    from store.behind import Behind

Array = NDArray[Any]
Flushed = Mapping[str, Any]
T = TypeVar("T")
# Of an encoded chunk: its bytes with their checksum, its non-zeros, its values' type, whether some
# are below zero.
Encoded = tuple[bytes, int, str, bool]


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
        images: Literal["smooth", "flat"] | None = None,
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
        self._behind = behind
        self._images, self._lines = images, appended[:, 1]
        self.total_rows = int(self.offsets[-1])
        self.dtype = np.dtype(dtype)
        self._narrow = narrow
        stored = 2 if narrow else self.dtype.itemsize
        self.layout = layout or plan_layout(self.total_rows, channels * stored)
        resume = {"rows": 0, **(resume or {})}
        self.flushed = int(resume["rows"])
        on_boundary = self.flushed % self.layout.shard_rows == 0 or self.flushed == self.total_rows
        if not (on_boundary and 0 <= self.flushed <= self.total_rows):
            raise ValueError(f"row {self.flushed} is not on a shard boundary of {self.layout}")
        self._nonzeros = int(resume.get("nonzeros", 0))
        self._signed = bool(resume.get("signed", False))
        self._dtypes = Counter[str](resume.get("stored_dtypes", {}))
        self._position = self._resumed = self.flushed
        self._chunk: Array = np.zeros((self.layout.chunk_rows, channels), self.dtype)
        self._parts: list[Array] | None = [] if handed_over else None
        self._encoded: list[Future[Encoded]] = []
        self._stored: Future[None] | None = None
        self._on_flush = on_flush
        self._background = background
        with Location.of_node(group).answering():
            self._values = self._create(group, np.asarray(grid_hw), np.asarray(image_ids), channels)
        self._shards = ShardReader(self._values, lambda first, last: "")
        self._shards.refuse_missing(self.flushed)

    def _create(
        self, group: zarr.Group, grid_hw: Array, image_ids: Array, channels: int
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
        if self._behind:
            write_array(group, STARTS, self._behind.starts, ["entry"])
        return group.create_array(
            "values",
            shape=(self.total_rows, channels),
            dtype=self.dtype,
            chunks=(self.layout.chunk_rows, channels),
            shards=(self.layout.shard_rows, channels),
            serializer=RowsCodec(narrow=self._narrow),
            compressors=[Crc32cCodec()],
            # Should another tool read a lost float shard, then as NaN, not as "no concept".
            fill_value=np.nan if self.dtype.kind == "f" else 0,
            dimension_names=["row", "channel"],
            attributes={SCATTERED: True} if self._behind else {},
        )

    @property
    def signed(self) -> bool:
        """Whether a value that is stored is below zero."""
        return self._signed

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
        rows = np.asarray(rows)
        if rows.ndim != 2 or rows.shape[1] != self._values.shape[1]:
            raise ValueError(f"rows are {rows.shape}, the array is {self._values.shape}")
        if start < 0 or start + len(rows) > self.total_rows:
            raise ValueError(f"rows {start} to {start + len(rows)} of {self.total_rows}")
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

    def close(self) -> None:
        """Write what is left; every row must have been appended."""
        if self._position != self.total_rows:
            raise ValueError(f"{self._position} of {self.total_rows} rows were written")
        filled = self._position % self.layout.chunk_rows
        if filled and self._position > self.flushed:
            self._chunk[filled:] = 0
            if self._parts is not None:
                self._parts.append(self._chunk[filled:])
            self._encode()
        if self._encoded:
            self._flush()
        if self._stored:
            self._stored.result()
        with self._shards.location.answering():
            self._values.update_attributes(self._counted())

    def _take_as(self, dtype: np.dtype[Any], filled: int) -> None:
        """Let the chunk being filled be float16 as long as all its rows are, half the bytes."""
        half = self._narrow and dtype == np.float16 and self.dtype == np.float32
        if filled == 0:
            wanted = dtype if half else self.dtype
            if self._chunk.dtype != wanted:
                self._chunk = np.empty(self._chunk.shape, wanted)
        elif self._chunk.dtype != self.dtype and not half:
            self._chunk = self._chunk.astype(self.dtype)

    def _encode(self) -> None:
        executor = self._background.encoders if self._background else None
        parts = [self._chunk] if self._parts is None else self._parts
        self._encoded.append(
            _begun(executor, _encoded, parts, self.dtype, self._narrow, self._pieces())
        )
        if self._parts is not None:
            self._parts = []
        elif executor:
            self._chunk = np.empty_like(self._chunk)  # the other is being read
        if len(self._encoded) * self.layout.chunk_rows == self.layout.shard_rows:
            self._flush()

    def _pieces(self) -> Pieces | None:
        """The pieces of smooth images in the chunk that ends here."""
        if self._images != "smooth":
            return () if self._images else None
        stop = self._position
        start = (stop - 1) // self.layout.chunk_rows * self.layout.chunk_rows
        first = int(np.searchsorted(self.offsets, start, side="right")) - 1
        last = int(np.searchsorted(self.offsets, stop, side="left"))
        edges = np.clip(self.offsets[first : last + 1], start, stop)
        rows, lines = np.diff(edges), self._lines[first:last]
        pieces = [(int(n), int(line)) for n, line in zip(rows, lines, strict=True) if n]
        rest = start + self.layout.chunk_rows - stop  # of the last chunk
        return [*pieces, (rest, rest)] if rest else pieces

    def _flush(self) -> None:
        if self._stored:
            self._stored.result()  # one shard at a time, or a slow disk would fill the memory
        executor = self._background.storing if self._background else None
        self._stored = _begun(executor, self._store, self._encoded, self._position)
        self._encoded = []

    def _store(self, encoded: Sequence[Future[Encoded]], position: int) -> None:
        """Write the shard that ends before row `position`."""
        contents = []
        for content, nonzeros, dtype, signed in (future.result() for future in encoded):
            contents.append(content)
            self._nonzeros += nonzeros
            self._signed |= signed
            self._dtypes[dtype] += 1
        chunks = self.layout.shard_rows // self.layout.chunk_rows
        index = index_of([len(content) for content in contents], chunks)
        file = self._shards.location / self._shards.key(self.flushed // self.layout.shard_rows)
        file.write([*contents, index])
        self.flushed = position
        if self._on_flush:
            self._on_flush({"rows": self.flushed, **self._counted()})

    def _counted(self) -> dict[str, Any]:
        return {
            "nonzeros": self._nonzeros,
            "stored_dtypes": dict(sorted(self._dtypes.items())),
            "signed": self._signed,
        }


def _encoded(parts: Sequence[Array], dtype: np.dtype[Any], narrow: bool, pieces: Pieces) -> Encoded:
    half = narrow and all(part.dtype == np.float16 for part in parts)
    if pieces is not None:  # as columns, whatever they come as
        from store.smooth import joined  # Numba takes a while to be loaded

        rows = joined(parts, dtype).T
    elif len(parts) == 1:
        rows = parts[0]
    else:
        rows = np.concatenate(parts, dtype=None if half else dtype)
    content = encode(rows, narrow=narrow, pieces=pieces)
    chunk = Chunk.parse(content, rows.shape[1])
    return with_checksum(content), chunk.nonzeros, chunk.dtype.name, _has_negative(rows)


def _has_negative(rows: Array) -> bool:
    """Whether a value is below zero, -0.0 not counting."""
    if rows.dtype.kind != "f":
        return rows.dtype.kind == "i" and bool((rows < 0).any())
    # bits of negative numbers are above those of -0.0; comparing them is fast for float16, too
    bits = np.ascontiguousarray(rows).view(f"u{rows.dtype.itemsize}")
    return bool(bits.max(initial=0) > 1 << (8 * rows.dtype.itemsize - 1))


def _begun(executor: Executor | None, work: Callable[..., T], *arguments: Any) -> Future[T]:
    """Work handed to an executor, or done here and now where there is none."""
    if executor:
        return executor.submit(work, *arguments)
    done: Future[T] = Future()
    done.set_result(work(*arguments))
    return done
