"""Images of any size in one array: rows plus offsets, nothing padded.

A `Ragged` is a Zarr group of four arrays: ``values [rows, channels]``, ``offsets int64 [n+1]``
(entry i owns the rows ``offsets[i]:offsets[i+1]``), ``grid_hw int32 [n, 2]`` (those rows are an
h x w grid, row-major) and ``image_ids int64 [n]`` (which image entry i is). One that has grown
(`store.behind`) has ``starts int64 [n]``, too: where the rows of each entry begin in ``values``.
Rows are counted by ``offsets`` all the same: whoever reads them need not know.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from store.chunk import Chunk, ChunkError, assemble
from store.errors import ArtifactDamaged
from store.location import Span
from store.reading import MEND, member, read_whole, where
from store.set_rows import SetRows
from store.shards import ShardReader

if TYPE_CHECKING:
    import scipy.sparse
    import zarr

Array = NDArray[Any]
Form = Literal["dense", "sparse"]
# The array of where entries begin, and the attribute of the values that says that there is one.
STARTS, SCATTERED = "starts", "scattered"
# Names in a line about damage, before the rest is counted.
NAMED = 3


def offsets_of(grid_hw: Array) -> NDArray[np.int64]:
    """Row offsets ``[n+1]`` of entries whose grids are ``grid_hw [n, 2]``."""
    grid = np.asarray(grid_hw, dtype=np.int64).reshape(-1, 2)
    return np.concatenate([[0], np.cumsum(grid[:, 0] * grid[:, 1])]).astype(np.int64)


def whole_entries(offsets: NDArray[np.int64], rows: int) -> int:
    """How many entries, from the first on, lie wholly within the first `rows` rows."""
    return int(np.searchsorted(offsets, rows, side="right")) - 1


@dataclass(frozen=True)
class Ragged:
    """Read access to one ragged array (see the module's docstring for its four parts).

    Attributes
    ----------
    values : zarr.Array
        The values as Zarr sees them: dense, for dask and other tools.
    offsets, grid_hw, image_ids : arrays
    names : sequence of str
        Image names by image id, for messages; may be empty.
    scattered : int64 [entries], optional
        ``starts``, where rows do not lie in the order of the entries.
    origin : (Artifact, layer, name), optional
        Where it is found by other processes that it is sent to.
    """

    values: zarr.Array[Any]
    offsets: NDArray[np.int64]
    grid_hw: NDArray[np.int32]
    image_ids: NDArray[np.int64]
    names: Sequence[str] = ()
    scattered: NDArray[np.int64] | None = None
    origin: tuple[Any, str, str] | None = field(default=None, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.origin is not None:
            return _member, self.origin
        of_entries = self.offsets, self.grid_hw, self.image_ids
        return type(self), (self.values, *of_entries, self.names, self.scattered)

    @classmethod
    def open(cls, group: zarr.Group, names: Sequence[str] = ()) -> Ragged:
        """Open the ragged array that lives in `group`.

        Raises
        ------
        ArtifactDamaged
            When a part is gone, fails its checksum, or does not agree with the others.
        """
        values = member(group, "values")
        ragged = cls(
            values=values,
            offsets=read_whole(group, "offsets"),
            grid_hw=read_whole(group, "grid_hw"),
            image_ids=read_whole(group, "image_ids"),
            names=names,
            scattered=read_whole(group, STARTS) if values.attrs.get(SCATTERED) else None,
        )
        entries, rows = len(ragged.grid_hw), int(ragged.offsets[-1])
        on_disk = ragged.values.shape[0]
        if (
            not np.array_equal(ragged.offsets, offsets_of(ragged.grid_hw))
            or len(ragged.image_ids) != entries
            or len(ragged.starts) != entries
            or (ragged.scattered is None and on_disk != rows)
            or ragged.ends.max(initial=0) > on_disk
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
        """Type of the values as they are read; on disk they may be narrower."""
        return np.dtype(self.values.dtype).newbyteorder("=")

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where the rows of each entry begin on disk, ``[entries]``."""
        return self.offsets[:-1] if self.scattered is None else self.scattered

    @property
    def ends(self) -> NDArray[np.int64]:
        """One past the last row of each entry on disk, ``[entries]``."""
        return self.starts + np.diff(self.offsets)

    @property
    def counted(self) -> bool:
        """Whether `nonzeros` is known: earlier versions did not count."""
        return "nonzeros" in self.values.attrs

    @property
    def nonzeros(self) -> int:
        """How many values are not zero, as counted when they were written."""
        return cast(int, self.values.attrs.get("nonzeros", 0))

    @property
    def density(self) -> float:
        """Share of the values that are not zero, as counted when they were written."""
        return self.nonzeros / max(1, int(self.offsets[-1]) * self.channels)

    @property
    def signed(self) -> bool:
        """Whether some values are below zero, as seen when they were written."""
        return bool(self.values.attrs.get("signed", False))

    @property
    def stored_dtypes(self) -> dict[str, int]:
        """How many chunks hold their values as which type, such as ``{"float16": 812}``."""
        return dict(cast(dict[str, int], self.values.attrs.get("stored_dtypes", {})))

    @property
    def narrow_dtype(self) -> np.dtype[Any]:
        """The type that all values are stored as; `dtype` where they are of several, or unknown."""
        known = list(self.stored_dtypes)
        return np.dtype(known[0]) if len(known) == 1 else self.dtype

    @cached_property
    def nbytes_stored(self) -> int:
        """Bytes the values take on disk, compressed."""
        return int(self.values.nbytes_stored())

    @cached_property
    def shards(self) -> ShardReader:
        """The files that the values lie in."""
        return ShardReader(self.values, self._owners_on_disk)

    def rows(self, start: int, stop: int) -> Array:
        """Rows ``start:stop`` of the values, dense ``[stop - start, channels]``, writable.

        Raises
        ------
        ArtifactDamaged
            When a checksum does not match or a file is gone; the line names array, shard and
            images.
        """
        return self.read_dense([(start, stop)])

    def read_dense(self, spans: Sequence[Span], dtype: Any = None) -> Array:
        """Rows of several spans, one after the other; errors as `rows`.

        As `dtype`, which must hold them; by default `self.dtype`.
        """
        rows = sum(stop - start for start, stop in spans)
        out = np.empty((rows, self.channels), dtype or self.dtype)
        at = 0
        with self._damage(spans):
            for chunk, first, stop in self._pieces(spans):
                chunk.fill(out[at : at + stop - first], first, stop)
                at += stop - first
        return out

    def read_sparse(self, spans: Sequence[Span]) -> scipy.sparse.csr_array:
        """Rows of several spans as one sparse matrix; float32 for float16; errors as `rows`."""
        with self._damage(spans):
            return assemble(list(self._pieces(spans)), self.channels, self.dtype)

    @contextmanager
    def _damage(self, spans: Sequence[Span]) -> Iterator[None]:
        """A chunk whose checksum is right and whose content is not: written wrongly."""
        try:
            yield
        except ChunkError as error:
            start, stop = spans[0][0], spans[-1][1]
            raise ArtifactDamaged(
                f"{where(self.values)}: rows {start} to {stop}{self._owners(start, stop - 1)} "
                f"cannot be read ({error}); {MEND}"
            ) from error

    def _pieces(self, spans: Sequence[Span]) -> Iterator[tuple[Chunk, int, int]]:
        """(chunk, first row in it, one past the last) of the spans, in their order."""
        size = self.shards.chunk_rows
        wanted: list[tuple[int, int, int]] = []
        for start, stop in self._on_disk(spans):
            for number in range(start // size, -(-stop // size) if stop > start else 0):
                base = number * size
                wanted.append((number, max(start - base, 0), min(stop - base, size)))
        numbers = [number for number, _, _ in wanted]
        if any(after < before for before, after in pairwise(numbers)):
            chunks = self.shards.chunks(numbers)
            for number, first, last in wanted:
                yield chunks[number], first, last
            return
        # one by one: what was read is decoded while it is in the cache
        each = self.shards.each(list(dict.fromkeys(numbers)))
        at, chunk = next(each, (-1, None))
        for number, first, last in wanted:
            if number != at:
                at, chunk = next(each)
            assert chunk is not None
            yield chunk, first, last

    def _on_disk(self, spans: Sequence[Span]) -> Sequence[Span]:
        """Where spans of rows lie in the values, those that follow each other as one."""
        rows = int(self.offsets[-1])
        for start, stop in spans:
            if not 0 <= start <= stop <= rows:
                raise IndexError(f"rows {start} to {stop} of {rows}")
        if self.scattered is None:
            return spans
        found: list[Span] = []
        for start, stop in spans:
            first = int(np.searchsorted(self.offsets, start, side="right")) - 1
            last = int(np.searchsorted(self.offsets, stop, side="left"))
            lows, highs = self.offsets[first:last], self.offsets[first + 1 : last + 1]
            moved = self.scattered[first:last] - lows
            lows, highs = np.maximum(lows, start) + moved, np.minimum(highs, stop) + moved
            for low, high in zip(lows.tolist(), highs.tolist(), strict=True):
                if high <= low:
                    continue  # an entry without rows
                if found and found[-1][1] == low:
                    low = found.pop()[0]
                found.append((low, high))
        return found

    def map(self, entry: int) -> Array:
        """Entry `entry` as an ``[h, w, channels]`` array."""
        entry = range(len(self))[entry]  # -1 is the last; too large is an IndexError
        h, w = (int(side) for side in self.grid_hw[entry])
        span = int(self.offsets[entry]), int(self.offsets[entry + 1])
        return self.read_dense([span]).reshape(h, w, self.channels)

    def select(
        self, entries: Sequence[int] | Array, block_rows: int | None = None, form: Form = "dense"
    ) -> SetRows:
        """The rows of some entries, in that order, as one tall matrix read block by block."""
        wanted = np.asarray(entries, dtype=np.int64)
        if wanted.size and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"entries {wanted.min()} to {wanted.max()}: there are {len(self)}")
        if block_rows is not None and block_rows < 1:
            raise ValueError(f"block_rows is {block_rows}, must be at least 1")
        return SetRows(self, wanted, block_rows, form)

    def _owners(self, first: int, last: int) -> str:
        """`` of a.png, b.png, c.png and 4 more``: whose rows these are."""
        low, high = np.searchsorted(self.offsets, [first, max(first, last)], side="right") - 1
        return self._named(self.image_ids[low : high + 1])

    def _owners_on_disk(self, first: int, last: int) -> str:
        """The same of rows as they lie in the values."""
        if self.scattered is None:
            return self._owners(first, last)
        return self._named(self.image_ids[(self.starts <= last) & (self.ends > first)])

    def _named(self, image_ids: NDArray[np.int64]) -> str:
        ids = [int(i) for i in image_ids]
        if not ids:
            return ""
        names = [self.names[i] if i < len(self.names) else f"image {i}" for i in ids[:NAMED]]
        more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
        return f" of {', '.join(names)}{more}"


def _member(artifact: Any, layer: str, name: str) -> Ragged:
    return cast(Ragged, artifact.ragged(layer, name))
