"""One chunk of rows as bytes: compressed sparse rows where that is much smaller, dense elsewhere.

ReLU activations deep in a network are mostly zeros, and factorization wants them as sparse rows.
So a chunk is written in the form it is read in; the smaller form is chosen chunk by chunk. All
numbers are little-endian::

    header    version u8, form u8 ('S', 'D' or 'L'), type of the values char[4] (numpy: "<f2"),
              pad u16, rows u32, non-zeros u32, bytes of counts u32, bytes of columns u32
    counts    non-zeros of each row, u16 (u32 from 65536 channels on)           only in form 'S'
    columns   column of each non-zero, row by row, same type                    only in form 'S'
    values    form 'S': the non-zeros; form 'D': all values, row-major; form 'L': all values,
              column by column, as what is left of them

Form 'L' is for maps of images, whose rows are pixels line by line, and whose columns have little to
do with each other. Of smooth ones `counts` has the pieces of images that the chunk holds, rows and
pixels of a line, u32 each. Bits of equal weight of what is left of these (`store.smooth`) lie
together, and LZ4 finds those that are all zero: of interpolated maps a third of the bytes of form
'D', in a third of the time. Without pieces values are as they were, and LZ4 finds what is flat.

Each of these is a shuffled Blosc frame: LZ4 for sparse rows, which decodes nearly as fast as
memory is read; Zstandard for dense ones, where it finds the zeros that are left (at half density
0.59 of the bytes against 0.92), or the bytes as they are where there is little to find. A value
counts as zero only when all its bits are: -0.0 and NaN come back as they were.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import scipy.sparse

Array = NDArray[Any]

VERSION = 1
HEADER = struct.Struct("<BB4sHIIII")
# Sparse rows must save this factor before compression: below it dense ones are read faster, and
# compress about as well. For float16 that means up to a third of non-zeros.
SPARSE_GAIN = 1.5
# Compressed dense rows must be so much smaller to be worth their decoding: of features of any sign
# Zstandard saves 8 % of the bytes, the noise in them, and decodes at a thirtieth of a copy's rate.
DENSE_GAIN = 0.8
FEW = 64  # channels of rows whose non-zeros are counted rather than searched for
FRAME = struct.Struct("<4xI4xI")  # of Blosc: bytes before and after compression
SPARSE, DENSE, LINES = ord("S"), ord("D"), ord("L")
Pieces = Sequence[tuple[int, int]]  # (rows, pixels of a line) of images

FLOAT16_VALUES = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)


class ChunkError(ValueError):
    """Bytes that are not a chunk of the expected shape."""


def encode(rows: Array, *, narrow: bool = False, pieces: Pieces | None = None) -> bytes:
    """The bytes of one chunk.

    Parameters
    ----------
    rows : array [n, channels]
        Of any real type of 1, 2, 4 or 8 bytes.
    narrow : bool
        Keep float32 values as float16, unless one of this chunk would become infinite.
    pieces : sequence of (rows, pixels of a line), optional
        Rows are unsigned integers, pixels of images: form 'L' is taken. Of smooth ones, their
        pieces; none, where they are flat between edges.

    Returns
    -------
    bytes
    """
    rows = rows.astype(rows.dtype.newbyteorder("<"), copy=False)
    if pieces is not None:
        planes, shuffle = np.ascontiguousarray(rows.T), _blosc().NOSHUFFLE
        if pieces:
            from store.smooth import remainders  # Numba takes a while to be loaded

            planes, shuffle = remainders(planes, pieces), _blosc().BITSHUFFLE
        parts = [_lz4(np.array(pieces, "<u4")), b"", _lz4(planes, shuffle)]
        return _framed(LINES, rows.dtype, len(rows), int(np.count_nonzero(rows)), parts)
    rows = np.ascontiguousarray(rows)
    flat, channels = rows.reshape(-1), rows.shape[1]
    places = np.flatnonzero(_bits(flat) != 0)  # of booleans: several times faster than of numbers
    values = flat[places]
    if narrow and rows.dtype == np.float32 and (half := _narrowed(values)) is not None:
        kept = _bits(half) != 0  # a few may be too small for float16
        places, values = (places, half) if kept.all() else (places[kept], half[kept])
    small = _index_type(channels)
    if SPARSE_GAIN * len(places) * (small.itemsize + values.itemsize) < rows.size * values.itemsize:
        form = SPARSE
        counts, columns = _counts(places, len(rows), channels), places % channels
        parts = [_lz4(counts.astype(small)), _lz4(columns.astype(small)), _lz4(values)]
    else:
        form = DENSE
        parts = [b"", b"", _dense(flat.astype(values.dtype))]
    return _framed(form, values.dtype, len(rows), len(places), parts)


def _framed(
    form: int, dtype: np.dtype[Any], rows: int, nonzeros: int, parts: Sequence[bytes]
) -> bytes:
    """A chunk of these parts."""
    lengths = map(len, parts[:2])
    header = HEADER.pack(VERSION, form, dtype.str.encode(), 0, rows, nonzeros, *lengths)
    return b"".join([header, *parts])


def _counts(places: NDArray[np.int64], rows: int, channels: int) -> NDArray[np.int64]:
    """Non-zeros of each row; where rows are short, searching for each would take longest."""
    if channels > FEW:
        return np.diff(_pointers(places, rows, channels))
    return np.bincount(places // channels, minlength=rows)


def _bits(values: Array) -> Array:
    return values.view(f"<u{values.itemsize}")


def _narrowed(values: Array) -> Array | None:
    """float32 values as float16, or None when a finite one is beyond float16."""
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    infinite = np.isinf(half)
    return None if infinite.any() and np.isfinite(values[infinite]).any() else half


def _index_type(channels: int) -> np.dtype[Any]:
    return np.dtype("<u2" if channels < 2**16 else "<u4")


@cache
def _blosc() -> Any:
    # here, and SciPy below: most of what imports the store opens no chunk
    from numcodecs import blosc

    # Its own threads place blocks in the order they finish: other bytes on every run.
    blosc.use_threads = False
    return blosc


def _lz4(values: Array, shuffle: int | None = None) -> bytes:
    if not values.size:
        return b""
    shuffle = _blosc().SHUFFLE if shuffle is None else shuffle
    return bytes(_blosc().compress(values, b"lz4", 5, shuffle))


def _dense(values: Array) -> bytes:
    """Zstandard's frame, or one of the bytes as they are, where that saves too little."""
    if not values.size:
        return b""
    found = bytes(_blosc().compress(values, b"zstd", 1, _blosc().SHUFFLE))
    if len(found) <= DENSE_GAIN * values.nbytes:
        return found
    return bytes(_blosc().compress(values, b"lz4", 0, _blosc().NOSHUFFLE))


@dataclass(frozen=True)
class Chunk:
    """A chunk whose header has been read; its parts are decoded when they are asked for.

    Attributes
    ----------
    form : int
        `SPARSE`, `DENSE` or `LINES`.
    dtype : numpy dtype
        Of the values as they are stored.
    rows, channels, nonzeros : int
    """

    form: int
    dtype: np.dtype[Any]
    rows: int
    channels: int
    nonzeros: int
    _parts: tuple[memoryview, memoryview, memoryview]

    @classmethod
    def parse(cls, content: bytes | memoryview, channels: int) -> Chunk:
        """Read the header of a chunk of `channels` columns.

        Raises
        ------
        ChunkError
            When these bytes are none.
        """
        view = memoryview(content)
        try:
            version, form, kind, _, rows, nonzeros, first, second = HEADER.unpack_from(view)
            dtype = np.dtype(kind.rstrip(b"\0").decode())
        except (struct.error, TypeError, UnicodeDecodeError) as error:
            raise ChunkError("not a chunk of rows") from error
        if version != VERSION or form not in (SPARSE, DENSE, LINES):
            raise ChunkError(f"chunk of version {version} and form {form}, not known here")
        start, middle = HEADER.size + first, HEADER.size + first + second
        parts = view[HEADER.size : start], view[start:middle], view[middle:]
        return cls(form, dtype, rows, channels, nonzeros, parts)

    def dense(self, dtype: Any = None) -> Array:
        """All values ``[rows, channels]``, as `dtype` (by default the stored type)."""
        out = np.empty((self.rows, self.channels), dtype or self.dtype)
        self.fill(out, 0, self.rows)
        return out

    def fill(self, out: Array, first: int, stop: int) -> None:
        """Write rows ``first:stop`` into ``out [stop - first, channels]``, C-contiguous."""
        if self.form == DENSE:
            if (first, stop) == (0, self.rows) and out.dtype == self.dtype:
                _decompress_into(self._parts[2], out.reshape(-1))
            else:
                _assign(out, self._all_values[first:stop])
            return
        if self.form == LINES:
            _assign(out, self._of_columns(first, stop))
            return
        pointers, columns, values = self.parts
        chosen = slice(int(pointers[first]), int(pointers[stop]))
        places = np.repeat(
            np.arange(stop - first) * self.channels, np.diff(pointers[first : stop + 1])
        )
        places += columns[chosen]
        out[:] = 0
        out.reshape(-1)[places] = values[chosen]  # the few there are

    @cached_property
    def _all_values(self) -> Array:
        values = _decompress(self._parts[2], self.dtype, self.rows * self.channels)
        return values.reshape(self.rows, self.channels)

    def _of_columns(self, first: int, stop: int) -> Array:
        """Rows ``first:stop`` of a chunk of form `LINES`."""
        values = _decompress(self._parts[2], self.dtype, self.rows * self.channels)
        planes, pieces = values.reshape(self.channels, self.rows), self._pieces
        if not pieces:
            return planes.T[first:stop]
        from store.smooth import restored

        try:
            return restored(planes, pieces, first, stop)
        except ValueError as error:
            raise ChunkError(str(error)) from error

    @property
    def _pieces(self) -> Pieces:
        """Rows and pixels of a line of the images in a chunk of form `LINES`."""
        part = self._parts[0]
        count = FRAME.unpack_from(part)[0] // 8 if len(part) >= FRAME.size else 0
        pieces = _decompress(part, np.dtype("<u4"), 2 * count).reshape(-1, 2)
        return [(int(rows), int(line)) for rows, line in pieces]

    @cached_property
    def parts(self) -> tuple[NDArray[np.int64], Array, Array]:
        """Row pointers ``[rows + 1]``, columns and values of the non-zeros, in row order.

        Raises
        ------
        ChunkError
            When the parts do not agree with the header.
        """
        small = _index_type(self.channels)
        pointers: NDArray[np.int64]
        if self.form != SPARSE:
            flat = self.dense().reshape(-1)
            places = np.flatnonzero(_bits(flat) != 0)
            pointers = _pointers(places, self.rows, self.channels)
            return pointers, (places % self.channels).astype(small), flat[places]
        counts = _decompress(self._parts[0], small, self.rows)
        pointers = np.zeros(self.rows + 1, np.int64)
        np.cumsum(counts, out=pointers[1:])
        if pointers[-1] != self.nonzeros:
            raise ChunkError(f"{pointers[-1]} non-zeros counted, {self.nonzeros} announced")
        columns = _decompress(self._parts[1], small, self.nonzeros)
        return pointers, columns, _decompress(self._parts[2], self.dtype, self.nonzeros)


def _pointers(places: NDArray[np.int64], rows: int, channels: int) -> NDArray[np.int64]:
    """Where each row begins among the ascending flat `places` of the non-zeros ``[rows + 1]``."""
    return np.searchsorted(places, np.arange(rows + 1) * channels).astype(np.int64)


def _assign(out: Array, values: Array) -> None:
    """``out[:] = values``; float16 becomes float32 by table, 7 times faster than numpy's cast."""
    if values.dtype == np.float16 and out.dtype == np.float32:
        np.take(FLOAT16_VALUES, values.view(np.uint16), out=out, mode="clip")
    else:
        out[:] = values


def _arithmetic(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type scipy computes with: it knows no float16."""
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def _decompress(part: memoryview, dtype: np.dtype[Any], count: int) -> Array:
    values = np.empty(count, dtype)
    _decompress_into(part, values)
    return values


def _decompress_into(part: memoryview, values: Array) -> None:
    """Decode a frame into flat `values`, whose bytes it must have."""
    count = len(values)
    if not count:
        return
    # Blosc trusts the lengths in its frame, and would read past a frame that was cut off.
    if len(part) < FRAME.size or FRAME.unpack_from(part) != (values.nbytes, len(part)):
        raise ChunkError(f"{count} values are announced, their bytes are not there")
    try:
        _blosc().decompress(part, values)
    except (RuntimeError, ValueError) as error:
        raise ChunkError(f"{count} values cannot be decoded ({error})") from error


def assemble(
    pieces: Sequence[tuple[Chunk, int, int]], channels: int, dtype: np.dtype[Any]
) -> scipy.sparse.csr_array:
    """Some rows of several chunks as one sparse matrix of `dtype`.

    Parameters
    ----------
    pieces : sequence of (chunk, first row, one past the last row)

    Returns
    -------
    csr_array [rows, channels]
        Sorted columns; int32 indices unless there are more than 2^31 non-zeros.
    """
    import scipy.sparse

    decoded = [(chunk.parts, first, stop) for chunk, first, stop in pieces]
    counts = [np.diff(parts[0][first : stop + 1]) for parts, first, stop in decoded]
    pointers = np.concatenate([np.zeros(1, np.int64), *counts])
    np.cumsum(pointers, out=pointers)
    total = int(pointers[-1])
    index_type = np.int32 if max(total, channels) < 2**31 else np.int64
    columns, values = np.empty(total, index_type), np.empty(total, _arithmetic(dtype))
    at = 0
    for (row_pointers, some_columns, some_values), first, stop in decoded:
        chosen = slice(int(row_pointers[first]), int(row_pointers[stop]))
        size = chosen.stop - chosen.start
        columns[at : at + size] = some_columns[chosen]
        _assign(values[at : at + size], some_values[chosen])
        at += size
    matrix = scipy.sparse.csr_array(
        (values, columns, pointers.astype(index_type)), shape=(len(pointers) - 1, channels)
    )
    matrix.has_sorted_indices = True
    matrix.has_canonical_format = True
    return matrix
