"""Smooth images as what is left of them when each pixel is foretold from those before it.

Of a pixel the one to its left, the one above and that above to the left foretell what a plane
through them would have. Compiled: in numpy it takes a dozen trips through memory.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]
Pieces = Sequence[tuple[int, int]]
BLOCK = 64  # rows that are turned into columns, or back, while they are in the cache


class _Rooms(threading.local):
    """Memory that a thread uses again: new pages cost as much as what is done with them."""

    def __init__(self) -> None:
        self.bytes: dict[str, Array] = {}


_rooms = _Rooms()


def room(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array of this thread's, valid until the thread asks for that name again."""
    size = int(np.prod(shape)) * dtype.itemsize
    if len(_rooms.bytes.get(name, ())) < size:
        _rooms.bytes[name] = np.empty(size, np.uint8)
    return _rooms.bytes[name][:size].view(dtype).reshape(shape)


def joined(parts: Sequence[Array], dtype: np.dtype[Any]) -> Array:
    """Rows of several arrays ``[n, channels]`` as columns ``[channels, n]``; see `room`."""
    shape = parts[0].shape[1], sum(len(part) for part in parts)
    columns = [part.T for part in parts]
    return np.concatenate(columns, axis=1, out=room("joined", shape, dtype))


def _compiled(function: Callable[..., Any]) -> Any:
    """Without the interpreter lock, and kept on disk where that can be written to."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no place to keep it
        return njit(nogil=True)(function)


def remainders(planes: Array, pieces: Pieces) -> Array:
    """What is left of smooth images.

    Parameters
    ----------
    planes : unsigned integers [channels, n], C-contiguous
        Pixels of pieces of images, line by line.
    pieces : sequence of (rows, pixels of a line)
        Together n rows.

    Returns
    -------
    array [channels, n]
        ``e[i] = d[i] - d[i - line]``, ``d[i] = v[i] - v[i - 1]``, modulo the type's range, what
        lies before the piece being 0; the sign is the lowest bit. See `room`.

    Raises
    ------
    ValueError
        When the pieces are not those of the rows.
    """
    found = room("remainders", planes.shape, planes.dtype)
    _remainders(planes, _together(pieces, planes.shape[1]), 8 * planes.itemsize - 1, found)
    return found


def restored(left: Array, pieces: Pieces, first: int, stop: int) -> Array:
    """Inverse of `remainders`: rows ``first:stop``, ``[stop - first, channels]``."""
    together = _together(pieces, left.shape[1])
    found = np.empty((stop - first, len(left)), left.dtype)
    _restored(left, together, first, stop, room("restored", left.shape, left.dtype), found)
    return found


def _together(pieces: Pieces, rows: int) -> NDArray[np.int64]:
    """Rows and pixels of a line of each piece, int64 ``[pieces, 2]``."""
    found = np.array(pieces, np.int64).reshape(-1, 2)
    if found[:, 0].sum() != rows or (found < 1).any():
        raise ValueError(f"pieces {found.tolist()} are not of {rows} rows")
    found[:, 1] = found.min(axis=1)  # a line that was cut off
    return found


@_compiled
def _remainders(planes, pieces, top, out):  # type: ignore[no-untyped-def]
    for channel in range(len(out)):
        first = 0
        for piece in range(len(pieces)):
            count, line = pieces[piece]
            v, e = planes[channel, first : first + count], out[channel, first : first + count]
            for i in range(min(count, line)):
                e[i] = v[i] - v[i - 1] if i else v[i]
            if count > line:
                e[line] = v[line] - v[line - 1] - v[0]
            beyond, at, above, corner = e[line + 1 :], v[line + 1 :], v[1:], v[:]
            before = v[line:]
            for i in range(len(beyond)):
                beyond[i] = at[i] - before[i] - above[i] + corner[i]
            first += count
        e = out[channel]
        for i in range(len(e)):
            e[i] = (e[i] << 1) ^ (0 - (e[i] >> top))


@_compiled
def _restored(left, pieces, begin, stop, columns, out):  # type: ignore[no-untyped-def]
    longest = 1
    for piece in range(len(pieces)):
        longest = max(longest, pieces[piece, 1])
    above = np.empty(longest, left.dtype)  # d of the line above
    for channel in range(len(left)):
        first = 0
        for piece in range(len(pieces)):
            count, line = pieces[piece]
            end = min(first + count, stop)
            if first + count <= begin:  # others need not be known
                end = first
            above[:line] = 0
            sum = np.uint64(0)
            for start in range(first, end, line):
                for i in range(min(line, end - start)):
                    e = np.uint64(left[channel, start + i])
                    sign = np.uint64(0) - (e & np.uint64(1))
                    d = np.uint64(above[i]) + ((e >> np.uint64(1)) ^ sign)
                    above[i] = d
                    sum += d
                    columns[channel, start + i] = sum
            first += count
    for start in range(begin, stop, BLOCK):
        for channel in range(len(left)):
            for row in range(start, min(start + BLOCK, stop)):
                out[row - begin, channel] = columns[channel, row]
