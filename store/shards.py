"""Shards as Zarr's sharding codec lays them out: chunks, then an index, each with its checksum.

Reading and writing them here rather than through Zarr hands chunks on as they are stored, which
is what makes sparse reads fast, and needs one chunk of memory rather than a shard. Zarr reads the
same files; the tests compare the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from store.chunk import Chunk, ChunkError
from store.errors import ArtifactDamaged, StoreError
from store.location import Location, Span
from store.reading import MEND

if TYPE_CHECKING:
    import zarr

NOTHING = np.iinfo(np.uint64).max
CHECKSUM = 4
# Two ranges of one file are read as one when no more than this lies between them.
GAP = 256 * 2**10
# From a disk no more is read at once: what was read is decoded while it is in the cache.
TOGETHER = 2**20
Index = NDArray[np.uint64]


def with_checksum(content: bytes) -> bytes:
    """Content followed by its CRC-32C, little-endian, as Zarr's ``crc32c`` codec writes it."""
    return content + google_crc32c.value(content).to_bytes(CHECKSUM, "little")


# What the checksum of content and its checksum is, whatever the content.
RESIDUE = google_crc32c.value(with_checksum(b""))


def checked(content: bytes | memoryview) -> memoryview:
    """What `with_checksum` was given.

    Raises
    ------
    ChunkError
        When content and checksum do not belong together.
    """
    if len(content) < CHECKSUM:
        raise ChunkError("cut off")
    if google_crc32c.value(bytes(content)) != RESIDUE:
        raise ChunkError("its checksum does not match")
    return memoryview(content)[:-CHECKSUM]


def index_of(lengths: Sequence[int], chunks: int) -> bytes:
    """The index of a shard of `chunks` places whose first ones hold chunks of these lengths."""
    index = np.full((chunks, 2), NOTHING, "<u8")
    index[: len(lengths), 1] = lengths
    index[: len(lengths), 0] = np.cumsum([0, *lengths])[:-1]
    return with_checksum(index.tobytes())


class ShardReader:
    """The chunks of one array of rows, read from its shards.

    Parameters
    ----------
    values : zarr.Array
        Its metadata; not read through.
    owners : callable
        ``owners(first row, last row)``: whose rows these are, for messages.
    """

    def __init__(self, values: zarr.Array[Any], owners: Callable[[int, int], str]) -> None:
        if values.shards is None:
            raise ArtifactDamaged(f"{Location.of_node(values)}: has no shards; {MEND}")
        self.rows, self.channels = values.shape
        self.chunk_rows, self.shard_rows = values.chunks[0], values.shards[0]
        self.location = Location.of_node(values)
        self._key = values.metadata.encode_chunk_key
        self._owners = owners
        self._indices: dict[int, Index] = {}

    def chunks(self, numbers: Iterable[int]) -> dict[int, Chunk]:
        """Chunks by number, each read once; errors as `each`."""
        return dict(self.each(sorted(set(numbers))))

    def each(self, numbers: Sequence[int]) -> Iterator[tuple[int, Chunk]]:
        """Chunks of ascending numbers, read as they are asked for; neighbours together.

        Raises
        ------
        ArtifactDamaged
            When one fails its checksum or its shard is gone; the line names shard and images.
        """
        per_shard = self.shard_rows // self.chunk_rows
        by_shard: dict[int, list[int]] = {}
        for number in numbers:
            by_shard.setdefault(number // per_shard, []).append(number)
        for shard, wanted in by_shard.items():
            at = wanted  # what to blame
            try:
                index = self._index(shard, per_shard)
                places = [index[number % per_shard].tolist() for number in wanted]
                if any(start == NOTHING for start, _ in places):
                    raise ChunkError("a chunk was never written")
                spans = [(start, start + length) for start, length in places]
                contents = self._contents(shard, spans)
                for number in wanted:
                    at = [number]
                    chunk = Chunk.parse(checked(next(contents)), self.channels)
                    if chunk.rows != self.chunk_rows:
                        raise ChunkError(f"a chunk of {chunk.rows} rows")
                    yield number, chunk
            except (ChunkError, OSError) as error:
                raise self._error(error, shard, at) from error

    def _error(self, error: Exception, shard: int, chunks: Sequence[int]) -> StoreError:
        if isinstance(error, OSError) and not isinstance(
            error, FileNotFoundError | IsADirectoryError
        ):
            return StoreError(
                f"{self.location}: shard {self.key(shard)} cannot be read "
                f"({error.strerror or error}); mend that and run it again"
            )
        rows = chunks[0] * self.chunk_rows, (chunks[-1] + 1) * self.chunk_rows
        reason = str(error) if isinstance(error, ChunkError) else "it is gone"
        return self.damaged(shard, rows, reason)

    def key(self, shard: int) -> str:
        """Name of a shard's file below the array."""
        return self._key((shard, 0))

    def refuse_missing(self, rows: int) -> None:
        """Check that the shards of the first `rows` rows are there."""
        for shard in range(-(-rows // self.shard_rows)):
            if not (self.location / self.key(shard)).size():
                raise self.damaged(shard, (shard * self.shard_rows, rows), "gone or empty")

    def damaged(self, shard: int, rows: Span, reason: str) -> ArtifactDamaged:
        """The error that names the shard, its rows and their images."""
        start, stop = rows[0], min(rows[1], self.rows)
        return ArtifactDamaged(
            f"{self.location}: rows {start} to {stop}{self._owners(start, stop - 1)} cannot be "
            f"read (shard {self.key(shard)}: {reason}); {MEND}"
        )

    def _index(self, shard: int, chunks: int) -> Index:
        if shard not in self._indices:
            file = self.location / self.key(shard)
            content = checked(file.read_end(16 * chunks + CHECKSUM))
            self._indices[shard] = np.frombuffer(content, "<u8").reshape(chunks, 2)
        return self._indices[shard]

    def _contents(self, shard: int, spans: list[Span]) -> Iterator[bytes | memoryview]:
        """The bytes of ascending spans of a shard's file, in few reads."""
        file = self.location / self.key(shard)
        most = math.inf if file.path is None else TOGETHER
        groups: list[list[Span]] = [[spans[0]]]
        for before, span in pairwise(spans):
            if span[0] - before[1] > GAP or span[1] - groups[-1][0][0] > most:
                groups.append([])
            groups[-1].append(span)
        joined = [(group[0][0], group[-1][1]) for group in groups]
        parts = file.read_spans(joined) if file.path is None else file.each_span(joined)
        for group, part in zip(groups, parts, strict=True):
            if len(group) == 1:
                yield part
                continue
            for start, stop in group:
                yield memoryview(part)[start - group[0][0] : stop - group[0][0]]
