"""Several starts on rows in memory, from the first update to the last, in one compiled call.

The passes over a sample are so short that calling them one by one takes longer than they do.
Factors are [k, width] here, flat, width a multiple of `WIDE` and zero where there is no channel.
"""

import numpy as np

from stages.algorithms.nmf.kernels.compiling import GROUP, LANES, WIDE, compiled
from stages.algorithms.nmf.kernels.lanes import add_scaled, load, store, total_of, zeros
from stages.algorithms.nmf.kernels.vector import pass_over, sweep_coordinates


@compiled
def accelerate(values, columns, starts, factors, sizes, norm, updates, rule, how, losses):
    """`initial.accelerated` of CSR rows for W >= 0.

    Parameters
    ----------
    values, columns, starts : flat
        Of float32 or float64, int32, int64.
    factors : float64 [sum of all k, channels]
        The starts; becomes the W of the last update of each, with unit rows.
    sizes : int64 [starts]
        k of each.
    norm : float
        ``||A||_F^2``.
    updates : int
    rule : (tol, most)
        How H is found, as in `vector.pass_over`; tol is of the type of the values.
    how : (first share, settled, sweeps over W, their tolerance)
        See `initial`.
    losses : float64 [starts]
        Becomes ``||A - HW||_F^2`` of these W.
    """
    share_at_first, settled, _, _ = how
    rows, channels, count = len(starts) - 1, factors.shape[1], len(sizes)
    width = -(-channels // WIDE) * WIDE
    firsts = begins_of(sizes)
    most = sizes.max()
    last = np.zeros(len(factors) * width)
    for j in range(len(factors)):
        put(factors[j], 0, last, j * width, channels)
    at = last.copy()
    to_unit_length(last, len(factors), width)
    share = np.full(count, share_at_first)
    losses[:] = np.inf
    running = np.arange(count)
    tiles = -(-len(factors) // LANES)
    W, G = np.zeros((tiles, channels * LANES), values.dtype), np.zeros((count, most, most))
    narrow = np.zeros((count, most, most), values.dtype)
    S, P = np.zeros(W.shape), np.zeros((tiles, GROUP * LANES), values.dtype)
    HtH, cross = np.zeros(G.shape), np.zeros(count)
    empty = np.zeros((3, most * GROUP), values.dtype)
    room = (empty[0], empty[1], empty[2])
    no_H = np.empty((0, 0), values.dtype)
    Q, X = np.zeros(most * width), np.zeros(most * width)
    by = (False, rule[0], rule[1], False)
    for turn in range(updates):
        n = len(running)
        ours = sizes[running]
        places = begins_of(ours)
        used = -(-ours.sum() // LANES)
        W[:used] = 0
        for b in range(n):
            i = running[b]
            lay_out(at[firsts[i] * width :], sizes[i], width, channels, places[b], W)
            products(at[firsts[i] * width :], sizes[i], width, G[b])
        put(G.reshape(-1), 0, narrow.reshape(-1), 0, n * most * most)
        S[:used], HtH[:n], cross[:n] = 0, 0, 0
        stack, sums = (narrow[:n], places, ours, places), (S[:used], HtH[:n], cross[:n])
        into = (P[:used], room)
        pass_over(values, columns, starts, 0, rows, W[:used], stack, by, into, sums, no_H, True)
        goes_on = np.ones(n, np.bool_)
        for b in range(n):
            i = running[b]
            k, first = sizes[i], firsts[i] * width
            put(at, first, X, 0, k * width)
            loss = better_factors(S, HtH[b], places[b], channels, norm, Q, X, k, width, how, G[b])
            if loss > losses[i]:
                share[i] /= 2
                put(X, 0, at, first, k * width)
            else:
                ahead = share[i] if turn else 0.0
                for c in range(k * width):
                    at[first + c] = max(X[c] + ahead * (X[c] - last[first + c]), 0.0)
                share[i] = min(1.0, 1.05 * share[i])
                goes_on[b] = losses[i] - loss > settled * loss
            put(X, 0, last, first, k * width)
            losses[i] = loss
        running = running[goes_on]
        if not len(running):
            break
    for j in range(len(factors)):
        put(last, j * width, factors[j], 0, channels)


@compiled
def better_factors(S, lower, column, channels, norm, Q, X, k, width, how, G):
    """The W for the H of a pass, from the W before in X and into it, with unit rows; its loss.

    Q and G are room. S has ``H^T A`` from `column` of the tiles on, `lower` half of ``H^T H``.
    """
    _, _, sweeps, tol = how
    HtH = np.empty((k, k))
    for j in range(k):
        for i in range(j + 1):
            HtH[j, i] = HtH[i, j] = lower[j, i]
        tile, lane = (column + j) // LANES, (column + j) % LANES
        for c in range(channels):
            Q[j * width + c] = S[tile, c * LANES + lane]
    sweep_coordinates(Q, HtH, X, k, width, tol, sweeps)
    products(X, k, width, G)
    loss = norm
    for j in range(k):
        loss -= 2 * dot(Q, j * width, X, j * width, width)
        for i in range(k):
            loss += HtH[j, i] * G[j, i]
    to_unit_length(X, k, width)
    return max(loss, 0.0)


@compiled
def begins_of(sizes):
    """Where each of several neighbours begins."""
    firsts, total = np.empty(len(sizes), np.int64), 0
    for i in range(len(sizes)):
        firsts[i] = total
        total += sizes[i]
    return firsts


@compiled
def put(source, i, into, j, count):
    """Copy so many values; a slice put into another takes Numba a second to compile."""
    for at in range(count):
        into[j + at] = source[i + at]


@compiled
def lay_out(factors, k, width, channels, column, W):
    """Put one factorization into the tiles, from `column` on."""
    for j in range(k):
        tile, lane = (column + j) // LANES, (column + j) % LANES
        for c in range(channels):
            W[tile, c * LANES + lane] = factors[j * width + c]


@compiled
def products(factors, k, width, G):
    """``W W^T``."""
    for j in range(k):
        for i in range(j + 1):
            G[j, i] = G[i, j] = dot(factors, j * width, factors, i * width, width)


@compiled
def to_unit_length(factors, k, width):
    """Rows of unit length, in place; all-zero rows stay zero."""
    for j in range(k):
        square = dot(factors, j * width, factors, j * width, width)
        if square > 0:
            scale, zero = 1 / np.sqrt(square), zeros(factors)
            for at in range(j * width, (j + 1) * width, LANES):
                store(factors, at, add_scaled(zero, scale, load(factors, at)))


@compiled
def dot(left, i, right, j, width):
    """Sum of products of two rows, float64."""
    sum = zeros(left)
    for at in range(0, width, LANES):
        sum = add_scaled(sum, load(left, i + at), load(right, j + at))
    return total_of(sum)
