"""How rows become the chunks of a shard: the same bytes whoever makes them, on what machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from store.chunk import Chunk, Pieces, encode
from store.layout import Layout
from store.location import Location
from store.shards import index_of, with_checksum

Array = NDArray[Any]
Images = Literal["smooth", "flat"]


class Encoded(NamedTuple):
    """A chunk as it lies in its shard.

    Attributes
    ----------
    content : bytes
        With their checksum.
    nonzeros : int
    dtype : str
        Type of the values.
    signed : bool
        Whether some are below zero.
    """

    content: bytes
    nonzeros: int
    dtype: str
    signed: bool


@dataclass
class Counted:
    """What is counted of the values as they are written."""

    nonzeros: int = 0
    signed: bool = False
    stored_dtypes: Counter[str] = field(default_factory=Counter)  # of chunks

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Counted:
        """From `record`, or nothing yet."""
        return cls(
            int(record.get("nonzeros", 0)),
            bool(record.get("signed", False)),
            Counter(record.get("stored_dtypes", {})),
        )

    def add(self, other: Counted) -> None:
        """Count what was counted elsewhere."""
        self.nonzeros += other.nonzeros
        self.signed |= other.signed
        self.stored_dtypes += other.stored_dtypes

    @property
    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "nonzeros": self.nonzeros,
            "stored_dtypes": dict(sorted(self.stored_dtypes.items())),
            "signed": self.signed,
        }


@dataclass(frozen=True)
class ArrayPlan:
    """All that decides the files of an array of rows, besides the rows; small, for processes.

    Attributes
    ----------
    location : Location
        Of the array; absolute.
    rows, channels : int
    dtype : numpy dtype
        Of the rows as they will be read.
    narrow, images
        As `RaggedWriter` has them.
    """

    location: Location
    rows: int
    channels: int
    dtype: np.dtype[Any]
    layout: Layout
    narrow: bool = False
    images: Images | None = None

    @property
    def shards(self) -> int:
        """How many there are."""
        return self.layout.shards(self.rows)

    def file(self, shard: int) -> Location:
        """Where a shard lies, by Zarr's own rule."""
        return self.location / f"c/{shard}/0"

    def rows_of(self, shard: int) -> tuple[int, int]:
        """The first row of a shard, and the one after its last."""
        size = self.layout.shard_rows
        return shard * size, min((shard + 1) * size, self.rows)

    def half(self, dtype: np.dtype[Any]) -> bool:
        """Whether rows of this type may stay float16 until they are encoded."""
        return self.narrow and dtype == np.float16 and self.dtype == np.float32

    def checked(self, start: int, rows: Array) -> Array:
        """Rows that are to lie from row `start` on.

        Raises
        ------
        ValueError
            When the array has no such place.
        """
        rows = np.asarray(rows)
        if rows.ndim != 2 or rows.shape[1] != self.channels:
            raise ValueError(f"rows are {rows.shape}, the array is {(self.rows, self.channels)}")
        if start < 0 or start + len(rows) > self.rows:
            raise ValueError(f"rows {start} to {start + len(rows)} of {self.rows}")
        return rows

    def pieces(
        self, offsets: NDArray[np.int64], lines: Array, start: int, stop: int
    ) -> list[tuple[int, int]]:
        """The pieces of smooth images in the rows ``start:stop``, which are of one chunk.

        Parameters
        ----------
        offsets : int64 [n + 1]
            Rows of the array at which entries begin; those in question are among them.
        lines : int array [n]
            Pixels of a line of each.
        """
        if self.images != "smooth":
            return []
        first = int(np.searchsorted(offsets, start, side="right")) - 1
        last = int(np.searchsorted(offsets, stop, side="left"))
        edges = np.clip(offsets[first : last + 1], start, stop)
        found = zip(np.diff(edges), lines[first:last], strict=True)
        return [(int(rows), int(line)) for rows, line in found if rows]

    def encoded(self, parts: Sequence[Array], pieces: list[tuple[int, int]]) -> Encoded:
        """One chunk of the rows of `parts`, filled up with zeros where it is the last.

        Parameters
        ----------
        parts : sequence of arrays [n, channels]
            Of `dtype`, or `half`.
        pieces : list of (rows, pixels of a line)
            As `pieces` found them.
        """
        missing = self.layout.chunk_rows - sum(map(len, parts))
        if missing:
            parts = [*parts, np.zeros((missing, self.channels), parts[-1].dtype)]
        of_images: Pieces | None = () if self.images else None
        if self.images == "smooth":
            of_images = [*pieces, (missing, missing)] if missing else pieces
        return _encoded(parts, self.dtype, self.narrow, of_images)

    def write_shard(self, shard: int, chunks: Iterable[Encoded]) -> Counted:
        """Write a shard of these chunks, all of them; a crash leaves all of it or nothing."""
        contents, counted = list[bytes](), Counted()
        for content, nonzeros, dtype, signed in chunks:
            contents.append(content)
            counted.add(Counted(nonzeros, signed, Counter([dtype])))
        places = self.layout.shard_rows // self.layout.chunk_rows
        index = index_of([len(content) for content in contents], places)
        self.file(shard).write([*contents, index])
        return counted


def _encoded(parts: Sequence[Array], dtype: np.dtype[Any], narrow: bool, pieces: Any) -> Encoded:
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
    return Encoded(with_checksum(content), chunk.nonzeros, chunk.dtype.name, _has_negative(rows))


def _has_negative(rows: Array) -> bool:
    """Whether a value is below zero, -0.0 not counting."""
    if rows.dtype.kind != "f":
        return rows.dtype.kind == "i" and bool((rows < 0).any())
    # bits of negative numbers are above those of -0.0; comparing them is fast for float16, too
    bits = np.ascontiguousarray(rows).view(f"u{rows.dtype.itemsize}")
    return bool(bits.max(initial=0) > 1 << (8 * rows.dtype.itemsize - 1))
