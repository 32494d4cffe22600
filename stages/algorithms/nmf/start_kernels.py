"""What lies between two passes of a warm start, on a GPU in Triton: `initial.accelerated`.

All in float64. `grams` is as `solve_kernels.solve` leaves it, added up: float64
``[problems, K + 1, K]``; `G` and `inverse` are as that kernel wants them.
"""

import triton
import triton.language as tl

from stages.algorithms.nmf.solve_kernels import least_squares


@triton.jit
def factors(
    HtA,
    grams,
    W,
    out,
    G,
    inverse,
    problems,
    firsts,
    sizes,
    channels,
    most,
    tol,
    K: tl.constexpr,
    B: tl.constexpr,
):
    """W by coordinate descent from the last one on: `sweep_factors`, B channels a program.

    `G` and `inverse` are room for H^T H as `_least_squares` wants it, one per program.
    """
    slot = tl.program_id(0)
    problem = tl.load(problems + slot)
    first, k = tl.load(firsts + problem), tl.load(sizes + problem)
    column = tl.arange(0, K)
    whole = tl.load(grams + slot * (K + 1) * K + column[:, None] * K + column[None, :])
    on_diagonal = column[:, None] == column[None, :]
    diagonal = tl.sum(tl.where(on_diagonal, whole, 0.0), axis=1)
    program = slot * tl.num_programs(1) + tl.program_id(1)
    G += program * K * K
    inverse += program * K
    tl.store(G + column[:, None] * K + column[None, :], tl.where(on_diagonal, 0.0, -whole))
    tl.store(
        inverse + column, tl.where(diagonal > 0, 1.0 / tl.where(diagonal > 0, diagonal, 1.0), 0.0)
    )
    tl.debug_barrier()  # what is read below was written by other threads
    c = tl.program_id(1) * B + tl.arange(0, B)
    at = (first + column[None, :]) * channels + c[:, None]
    inside = (c[:, None] < channels) & (column[None, :] < k)
    Q = tl.load(HtA + at, mask=inside, other=0.0)
    X = tl.load(W + at, mask=inside, other=0.0)
    X = least_squares(Q, X, G, inverse, k, most, tol, K)
    tl.store(out + at, X, mask=inside)


@triton.jit
def _gram(tile, k, K: tl.constexpr):
    """tile tile^T of ``[K, C]``, of which k rows are not zero."""
    row = tl.arange(0, K)
    gram = tl.zeros((K, K), tl.float64)
    for j in range(0, k):
        mine = tl.sum(tl.where(row[:, None] == j, tile, 0.0), axis=0)
        products = tl.sum(tile * mine[None, :], axis=1)
        gram += tl.where(row[:, None] == j, products[None, :], 0.0)
    return gram


@triton.jit
def _for_solve(gram, G, inverse, K: tl.constexpr):
    """W W^T as `solve` wants it."""
    row = tl.arange(0, K)
    on_diagonal = row[:, None] == row[None, :]
    diagonal = tl.sum(tl.where(on_diagonal, gram, 0.0), axis=1)
    tl.store(G + row[:, None] * K + row[None, :], tl.where(on_diagonal, 0.0, -gram).to(tl.float32))
    safe = tl.where(diagonal > 0, diagonal, 1.0)
    tl.store(inverse + row, tl.where(diagonal > 0, 1.0 / safe, 0.0).to(tl.float32))


@triton.jit
def factor_grams(
    W, G, inverse, problems, firsts, sizes, channels, K: tl.constexpr, C: tl.constexpr
):
    """W W^T of each problem, a problem a program."""
    slot = tl.program_id(0)
    problem = tl.load(problems + slot)
    first, k = tl.load(firsts + problem), tl.load(sizes + problem)
    row = tl.arange(0, K)
    gram = tl.zeros((K, K), tl.float64)
    for start in range(0, channels, C):
        c = start + tl.arange(0, C)
        inside = (row[:, None] < k) & (c[None, :] < channels)
        at = (first + row[:, None]) * channels + c[None, :]
        gram += _gram(tl.load(W + at, mask=inside, other=0.0), k, K)
    _for_solve(gram, G + slot * K * K, inverse + slot * K, K)


@triton.jit
def improve(
    W,
    HtA,
    grams,
    at_W,
    last_W,
    hi,
    lo,
    G,
    inverse,
    losses,
    shares,
    settled,
    problems,
    firsts,
    sizes,
    norm,
    channels,
    enough,
    HALF: tl.constexpr,
    K: tl.constexpr,
    C: tl.constexpr,
):
    """The loss of a new W, and the W of the next pass: beyond it by a share of the last step.

    A problem a program. `settled` ones stay as they are. `hi`, `lo`, `G` and `inverse` are those
    of the next W.
    """
    slot = tl.program_id(0)
    problem = tl.load(problems + slot)
    first, k = tl.load(firsts + problem), tl.load(sizes + problem)
    row = tl.arange(0, K)
    HtH = tl.load(grams + slot * (K + 1) * K + row[:, None] * K + row[None, :])
    cross = tl.load(norm) * 0
    gram = tl.zeros((K, K), tl.float64)
    for start in range(0, channels, C):
        c = start + tl.arange(0, C)
        inside = (row[:, None] < k) & (c[None, :] < channels)
        at = (first + row[:, None]) * channels + c[None, :]
        w = tl.load(W + at, mask=inside, other=0.0)
        cross += tl.sum(w * tl.load(HtA + at, mask=inside, other=0.0))
        gram += _gram(w, k, K)
    loss = tl.maximum(tl.load(norm) - 2 * cross + tl.sum(gram * HtH), 0.0)
    before, share = tl.load(losses + problem), tl.load(shares + problem)
    running = tl.load(settled + problem) == 0
    rose, first_turn = loss > before, before > 1e300
    step = tl.where(rose | first_turn, 0.0, share)
    square = tl.sum(tl.where(row[:, None] == row[None, :], gram, 0.0), axis=1)
    length = tl.where(square > 0, tl.sqrt(square), 1.0)
    beyond_gram = tl.zeros((K, K), tl.float64)
    for start in range(0, channels, C):
        c = start + tl.arange(0, C)
        inside = (row[:, None] < k) & (c[None, :] < channels)
        at = (first + row[:, None]) * channels + c[None, :]
        unit = tl.load(W + at, mask=inside, other=0.0) / length[:, None]
        last = tl.load(last_W + at, mask=inside, other=0.0)
        beyond = tl.maximum(unit + step * (unit - last), 0.0)
        beyond_gram += _gram(beyond, k, K)
        inside = inside & running
        tl.store(last_W + at, unit, mask=inside)
        tl.store(at_W + at, beyond, mask=inside)
        if HALF:
            high = beyond.to(tl.float16)
            tl.store(hi + at, high, mask=inside)
            tl.store(lo + at, (beyond - high.to(tl.float64)).to(tl.float16), mask=inside)
        else:
            tl.store(hi + at, beyond.to(tl.float32), mask=inside)
    if running:
        _for_solve(beyond_gram, G + slot * K * K, inverse + slot * K, K)
        tl.store(losses + problem, loss)
        tl.store(shares + problem, tl.where(rose, share / 2, tl.minimum(1.05 * share, 1.0)))
        still = (loss <= before) & (before - loss <= enough * loss)
        tl.store(settled + problem, tl.where(still, 1, 0))
