"""The inner loops of a pass over the rows on a GPU, in Triton.

A pass is five launches: `products` gives P = A W^T, `solve` turns P into H where it lies and adds
up H^T H, `sums` gives H^T A, `add_pieces` adds what the pieces of rows gave to float64 totals.
`solve` is in `solve_kernels`; what lies between two passes of a warm start in `start_kernels`.

Rows are cut into pieces by their blocks alone and pieces are added in their order, so the sums have
the same bits whether rows lie on the device or come through it, and however many go at once.

Tensor cores multiply float16: a number x is given to them as ``hi + lo``, its float16 and that of
what is left, which keeps 22 of float32's 24 bits; A itself is exact where its values are float16,
as the store keeps them, and is multiplied in three TF32 products where they are not.
"""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["count"])
def survey(values, facts, count, EACH: tl.constexpr, B: tl.constexpr):
    """Facts of some values: float64 ``[programs, 4]``.

    ``sum(x^2)``, how many are not finite or below zero, how many are not float16, the largest.
    """
    program = tl.program_id(0).to(tl.int64)
    squares = tl.zeros((B,), tl.float64)
    bad = tl.zeros((B,), tl.int32)
    inexact = tl.zeros((B,), tl.int32)
    largest = tl.zeros((B,), tl.float32)
    for start in range(0, EACH, B):
        at = program * EACH + start + tl.arange(0, B)
        x = tl.load(values + at, mask=at < count, other=0.0).to(tl.float32)
        wide = x.to(tl.float64)
        squares += wide * wide
        # false for NaN, too
        bad += tl.where((x >= 0.0) & (x <= 3.4028234663852886e38), 0, 1)
        inexact += tl.where(x.to(tl.float16).to(tl.float32) == x, 0, 1)
        largest = tl.maximum(largest, x)
    tl.store(facts + program * 4, tl.sum(squares))
    tl.store(facts + program * 4 + 1, tl.sum(bad).to(tl.float64))
    tl.store(facts + program * 4 + 2, tl.sum(inexact).to(tl.float64))
    tl.store(facts + program * 4 + 3, tl.max(largest).to(tl.float64))


@triton.jit
def expand(starts, columns, values, out, channels, B: tl.constexpr):
    """Put the non-zeros of one CSR row a program into `out` ``[rows, channels]``, zero before."""
    row = tl.program_id(0)
    stop = tl.load(starts + row + 1)
    for first in range(tl.load(starts + row), stop, B):
        at = first + tl.arange(0, B)
        column = tl.load(columns + at, mask=at < stop, other=0).to(tl.int64)
        value = tl.load(values + at, mask=at < stop, other=0.0)
        to = out + row.to(tl.int64) * channels + column
        tl.store(to, value.to(out.dtype.element_ty), mask=at < stop)


@triton.jit(do_not_specialize=["rows", "columns"])
def products(
    A,
    hi,
    lo,
    P,
    rows,
    columns,
    channels,
    scale,
    HALF: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BC: tl.constexpr,
):
    """P ``[rows, columns]`` = scale A W^T, a tile of BM x BN a program.

    `hi` and `lo` ``[columns, channels]`` are W's halves where A is float16; else `hi` is W itself.
    """
    tiles = tl.cdiv(columns, BN)
    n = (tl.program_id(0) % tiles) * BN + tl.arange(0, BN)
    r = (tl.program_id(0) // tiles).to(tl.int64) * BM + tl.arange(0, BM)
    acc = tl.zeros((BM, BN), tl.float32)
    for start in range(0, channels, BC):
        c = start + tl.arange(0, BC)
        a = tl.load(
            A + r[:, None] * channels + c[None, :],
            mask=(r[:, None] < rows) & (c[None, :] < channels),
            other=0.0,
        )
        at = n[None, :] * channels + c[:, None]
        wanted = (n[None, :] < columns) & (c[:, None] < channels)
        w = tl.load(hi + at, mask=wanted, other=0.0)
        if HALF:
            acc = tl.dot(a, w, acc)
            acc = tl.dot(a, tl.load(lo + at, mask=wanted, other=0.0), acc)
        else:
            acc = tl.dot(a, w, acc, input_precision="tf32x3")
    inside = (r[:, None] < rows) & (n[None, :] < columns)
    tl.store(P + r[:, None] * columns + n[None, :], acc * scale, mask=inside)


@triton.jit(do_not_specialize=["columns", "first_piece", "row0"])
def sums(
    A,
    H,
    lo,
    scales,
    partials,
    pieces,
    first_piece,
    row0,
    columns,
    stride,
    channels,
    HALF: tl.constexpr,
    BN: tl.constexpr,
    BC: tl.constexpr,
    BR: tl.constexpr,
):
    """H^T A of a piece's rows, a tile of BN x BC a program: float32 [pieces, columns, channels].

    A and H ``[rows, stride]`` begin with row `row0`. HALF: H is ``scale (H + lo)``, see `solve`.
    """
    # programs that read the same values of A follow one another
    tiles, across = tl.cdiv(columns, BN), tl.cdiv(channels, BC)
    program = tl.program_id(0)
    piece = program // (tiles * across)
    n = (program % tiles) * BN + tl.arange(0, BN)
    c = (program // tiles) % across * BC + tl.arange(0, BC)
    start = tl.load(pieces + first_piece + piece) - row0
    stop = tl.load(pieces + first_piece + piece + 1) - row0
    acc = tl.zeros((BN, BC), tl.float32)
    for row in range(start, stop, BR):
        r = row + tl.arange(0, BR)
        a = tl.load(
            A + r[:, None] * channels + c[None, :],
            mask=(r[:, None] < stop) & (c[None, :] < channels),
            other=0.0,
        )
        at = r[None, :] * stride + n[:, None]
        wanted = (r[None, :] < stop) & (n[:, None] < columns)
        h = tl.load(H + at, mask=wanted, other=0.0)
        if HALF:
            acc = tl.dot(h, a, acc)
            acc = tl.dot(tl.load(lo + at, mask=wanted, other=0.0), a, acc)
        else:
            acc = tl.dot(h, a, acc, input_precision="tf32x3")
    if HALF:
        scale = tl.load(scales + piece.to(tl.int64) * columns + n, mask=n < columns, other=0.0)
        acc *= scale[:, None]
    inside = (n[:, None] < columns) & (c[None, :] < channels)
    out = partials + piece.to(tl.int64) * columns * channels
    tl.store(out + n[:, None] * channels + c[None, :], acc, mask=inside)


@triton.jit(do_not_specialize=["first_group", "last_group", "first_piece", "size"])
def add_pieces(
    partials,
    total,
    groups,
    first_group,
    last_group,
    first_piece,
    size,
    FRESH: tl.constexpr,
    MOST: tl.constexpr,
    B: tl.constexpr,
):
    """Add the pieces' sums ``[pieces, size]`` to float64 `total` ``[size]``, group after group.

    FRESH: `total` begins with nothing.

    The pieces of a group, at most MOST, are of one block: no order depends on what goes at once.
    """
    at = tl.program_id(0) * B + tl.arange(0, B)
    total_of = tl.zeros((B,), tl.float64)
    if not FRESH:
        total_of = tl.load(total + at, mask=at < size, other=0.0)
    for group in range(first_group, last_group):
        piece = tl.load(groups + group) - first_piece + tl.arange(0, MOST)
        stop = tl.load(groups + group + 1) - first_piece
        some = tl.load(
            partials + piece[:, None].to(tl.int64) * size + at[None, :],
            mask=(piece[:, None] < stop) & (at[None, :] < size),
            other=0.0,
        )
        total_of += tl.sum(some.to(tl.float64), axis=0)
    tl.store(total + at, total_of, mask=at < size)
