"""Passes on a CPU: pieces of blocks in threads, summed up in their order."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from stages.algorithms.cores import cores
from stages.algorithms.nmf.kernels import (
    GROUP,
    LANES,
    PAIR,
    WIDE,
    dense_pass_over,
    pass_over,
    squares,
    sweep_coordinates,
)
from stages.algorithms.nmf.stack import Array, Matrix, Rule, Stack, Sums, Write, numbered_blocks
from stages.algorithms.rows import RowBlocks, as_numpy, is_sparse
from stages.algorithms.unit_sums import UnitSum

T = TypeVar("T")
PIECE_ROWS = 8192
LEAST_ROWS = 1024  # fewer are done before another thread has begun
CACHE_LINE = 64
SURVEYED = 2**20  # values of dense rows that a thread surveys at once


@dataclass(frozen=True)
class _Piece:
    """Some rows of a block, and what they add to the sums."""

    S: Matrix  # [tiles, channels * LANES]
    HtH: Matrix  # [problems, k, k], lower halves
    HtP: Matrix  # [problems]

    def add(self, other: "_Piece") -> "_Piece":
        """This one, with what another adds."""
        for sum, part in ((self.S, other.S), (self.HtH, other.HtH), (self.HtP, other.HtP)):
            np.add(sum, part, out=sum)
        return self


class _Done(NamedTuple):
    """A block of which all pieces have been computed."""

    start: int
    rows: int
    H: Array | None


class CpuEngine:
    """Passes on a CPU.

    The result does not depend on the number of threads: pieces are cut by the blocks alone and
    their sums are added in the order of `stages.algorithms.unit_sums`.

    Parameters
    ----------
    threads : int, optional
        By default one per core that this process may use.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or cores()

    def survey(self, block: Any, *, signed: bool = False) -> tuple[float, bool]:
        """See `Engine.survey`."""
        values = as_numpy(block.data if is_sparse(block) else block)
        dtype = np.dtype(np.float64 if values.dtype == np.float64 else np.float32)
        flat = as_computed(values, dtype)
        step = max(1, len(flat)) if is_sparse(block) else SURVEYED
        pieces = (partial(squares, flat[at : at + step]) for at in range(0, len(flat), step))
        total, least = 0.0, 0.0
        for part, lowest in in_order(pieces, self.threads if len(flat) > step else 1):
            total, least = total + part, min(least, lowest)
        return total, bool(np.isfinite(total)) and (signed or not least < 0)

    def room(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> Array:
        """See `Engine.room`."""
        return np.empty(shape, dtype)

    def run_pass(
        self,
        rows: RowBlocks,
        stack: Stack,
        rule: Rule,
        *,
        H: Array | None = None,
        write: Write | None = None,
        with_HtA: bool = True,
    ) -> list[Sums]:
        """See `Engine.run_pass`."""
        channels = rows.shape[1]
        tiles = _tiles(stack, channels)
        sums = UnitSum(lambda: _Piece(*_room_for_sums(stack, channels, with_HtA)), _Piece.add)
        spare: list[Array] = []  # fresh memory costs more than the arithmetic on it

        def pieces() -> Iterator[Callable[[], tuple[_Piece, _Done | None]]]:
            for start, block in numbered_blocks(rows):
                count = int(block.shape[0])
                found = H[start : start + count] if H is not None else None
                if write is not None:
                    room = spare.pop() if spare and len(spare[-1]) >= count else None
                    if room is None:
                        room = np.empty((count, stack.columns), stack.dtype)
                    found = room[:count]
                yield from _cut(block, start, stack, rule, tiles, found, with_HtA)

        for piece, done in in_order(pieces(), self.threads):
            sums.add(piece)
            if done is None:
                continue
            sums.end_block(done.rows)
            if write is not None and done.H is not None:
                write(done.start, done.H)
                spare.append(done.H if done.H.base is None else done.H.base)
        return _unpacked(sums.total(), stack, channels, with_HtA)


def in_order(calls: Iterator[Callable[[], T]], threads: int) -> Iterator[T]:
    """Results of calls made in threads, in order; at most two per thread are under way."""
    if threads == 1:
        for call in calls:
            yield call()
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[T]] = deque()
        for call in calls:
            waiting.append(pool.submit(call))
            del call
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def sweep_factors(W: Matrix, HtA: Matrix, HtH: Matrix, *, sweeps: int, tol: float) -> Matrix:
    """The W >= 0 that minimises ``||A - HW||_F`` ``[k, channels]``, by coordinate descent."""
    k, channels = W.shape
    width = -(-channels // WIDE) * WIDE
    Q, X = np.zeros((k, width)), np.zeros((k, width))
    Q[:, :channels], X[:, :channels] = HtA, W
    sweep_coordinates(Q.ravel(), np.ascontiguousarray(HtH), X.ravel(), k, width, tol, sweeps)
    return X[:, :channels].copy()


def least_squares(HtA: Matrix, HtH: Matrix) -> Matrix:
    """The W of any sign that minimises ``||A - HW||_F`` ``[k, channels]``; of several the shortest.

    A factor that nothing is made of is all zero.
    """
    inverse = np.linalg.pinv(HtH, rcond=1e-12, hermitian=True)
    # not by BLAS: its last bits depend on the number of threads
    return np.einsum("ij,jc->ic", inverse, HtA)


def _cut(
    block: Any,
    start: int,
    stack: Stack,
    rule: Rule,
    tiles: Array,
    H: Array | None,
    with_HtA: bool,
) -> Iterator[Callable[[], tuple[_Piece, _Done | None]]]:
    """The work on one block, cut into pieces; the last one says that the block is done."""
    rows = int(block.shape[0])
    values = as_compiled(block, stack.dtype)
    # whole groups; small blocks are cut as well, so that every core has some of them
    size = min(PIECE_ROWS, max(LEAST_ROWS, -(-rows // (8 * GROUP)) * GROUP))

    def call(first: int, last: int) -> tuple[_Piece, _Done | None]:
        part = None if H is None else H[first:last]
        done = _Done(start, rows, H) if last == rows else None
        return _compute(values, first, last, stack, rule, tiles, part, with_HtA), done

    for first in range(0, rows, size):
        last = min(first + size, rows)
        yield partial(call, first, last)


def _compute(
    values: tuple[Array, ...],
    first: int,
    last: int,
    stack: Stack,
    rule: Rule,
    tiles: Array,
    H: Array | None,
    with_HtA: bool,
) -> _Piece:
    channels = tiles.shape[1] // LANES
    largest = int(stack.sizes.max())
    P = aligned((len(tiles), GROUP * LANES), stack.dtype)
    group = tuple(aligned((largest * GROUP,), stack.dtype) for _ in range(3))
    sums = _room_for_sums(stack, channels, with_HtA)
    by = (stack.grams, stack.firsts, stack.sizes, stack.targets)
    how = (rule.multiplicative, stack.dtype.type(rule.tol), rule.sweeps, H is not None)
    found = np.empty((0, 0), stack.dtype) if H is None else H
    if len(values) == 3:
        pass_over(*values, first, last, tiles, by, how, (P, group), sums, found, with_HtA)
        return _Piece(*sums)
    W = _side_by_side(stack, channels)
    wide = aligned(W.shape, np.dtype(np.float64))
    # an odd number of cache lines a row, so that rows do not meet in the same ones
    block = aligned((GROUP * (W.shape[1] + LANES),), stack.dtype)
    piece = as_computed(values[0][first:last], stack.dtype)
    room, into = (P, group, block), (wide, *sums[1:])
    dense_pass_over(piece, channels, W, by, how, room, into, found, with_HtA)
    if with_HtA:
        S = sums[0].reshape(len(tiles), channels, LANES)
        padded = np.zeros((len(tiles) * LANES, channels))
        padded[: len(W)] = wide[:, :channels]
        S[:] = padded.reshape(len(tiles), LANES, channels).transpose(0, 2, 1)
    return _Piece(*sums)


def as_computed(rows: Array, dtype: np.dtype[Any]) -> Array:
    """Dense rows as the kernels take them, flat: of `dtype`, or float16 as its bits."""
    if rows.dtype == np.float16 and dtype == np.float32:
        return _writable(np.ascontiguousarray(rows)).view(np.uint16).reshape(-1)
    return _writable(np.ascontiguousarray(rows, dtype)).reshape(-1)


def _side_by_side(stack: Stack, channels: int) -> Array:
    """All factors as the kernels want them for dense rows ``[columns, width]``, zero-padded."""
    columns, width = -(-stack.columns // PAIR) * PAIR, -(-channels // WIDE) * WIDE
    W = aligned((columns, width), stack.dtype)
    W[: stack.columns, :channels] = stack.side_by_side
    return W


def _room_for_sums(stack: Stack, channels: int, with_HtA: bool) -> tuple[Matrix, Matrix, Matrix]:
    tiles = -(-stack.columns // LANES) if with_HtA else 0
    return (
        aligned((tiles, channels * LANES), np.dtype(np.float64)),
        np.zeros(stack.grams.shape),
        np.zeros(len(stack.sizes)),
    )


def _tiles(stack: Stack, channels: int) -> Array:
    """All factors as the kernels want them ``[tiles, channels * LANES]``, zero-padded."""
    count = -(-stack.columns // LANES)
    padded = np.zeros((count * LANES, channels), stack.dtype)
    padded[: stack.columns] = stack.side_by_side
    tiles = aligned((count, channels * LANES), stack.dtype)
    tiles[:] = padded.reshape(count, LANES, channels).transpose(0, 2, 1).reshape(count, -1)
    return tiles


def _unpacked(total: _Piece, stack: Stack, channels: int, with_HtA: bool) -> list[Sums]:
    flat = total.S.reshape(-1, channels, LANES).transpose(0, 2, 1).reshape(-1, channels)
    results = []
    for b, (first, k) in enumerate(zip(stack.firsts, stack.sizes, strict=True)):
        lower = total.HtH[b, :k, :k]
        HtA = flat[first : first + k] if with_HtA else None
        results.append(Sums(HtA, lower + np.tril(lower, -1).T, float(total.HtP[b])))
    return results


def as_compiled(block: Any, dtype: np.dtype[Any]) -> tuple[Array, ...]:
    """A block as the kernels take it: values, columns, starts of CSR, or one dense array."""
    if not is_sparse(block):
        return (as_numpy(block),)
    return (
        _writable(block.data.astype(dtype, copy=False)),
        _writable(block.indices.astype(np.int32, copy=False)),
        _writable(block.indptr.astype(np.int64, copy=False)),
    )


def _writable(array: NDArray[Any]) -> NDArray[Any]:
    """The kernels are compiled for writable arrays only, though they never write to these."""
    return array if array.flags.writeable else array.copy()


def aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Zeros that begin at a cache line, so that no vector lies across two."""
    bytes = math.prod(shape) * dtype.itemsize
    buffer = np.zeros(bytes + CACHE_LINE, np.uint8)
    start = -buffer.ctypes.data % CACHE_LINE
    return buffer[start : start + bytes].view(dtype).reshape(shape)
