"""The kernels by vector instructions: one for the 16 factors of a tile, whatever the k's are.

Numba's own loops come out scalar here (it cannot know that the arrays do not overlap), five times
slower; hence `lanes`. What is computed is told more simply by `plain`.
"""

import numpy as np

from stages.algorithms.nmf.kernels.compiling import GROUP, LANES, WIDE, compiled
from stages.algorithms.nmf.kernels.lanes import (
    add_scaled,
    check,
    distance,
    larger,
    largest_of,
    load,
    plus,
    store,
    total_of,
    widen,
    zeros,
)
from stages.algorithms.nmf.kernels.plain import multiply

__all__ = ["check", "pass_over", "sum_of_squares", "sweep_coordinates"]

# -- products and sums of a group of rows --------------------------------------------------------
#
# One tile each. W and S are flat [channels * LANES], P and H flat [GROUP * LANES].


@compiled
def _gather_sparse(values, columns, starts, first, count, W, P):
    """P = A W^T for rows ``first : first + count`` of a CSR matrix."""
    for r in range(count):
        # two sums, so that one product need not wait for the one before
        even = zeros(W)
        odd = zeros(W)
        end = starts[first + r + 1]
        at = starts[first + r]
        while at + 1 < end:
            even = add_scaled(even, values[at], load(W, np.int64(columns[at]) * LANES))
            odd = add_scaled(odd, values[at + 1], load(W, np.int64(columns[at + 1]) * LANES))
            at += 2
        if at < end:
            even = add_scaled(even, values[at], load(W, np.int64(columns[at]) * LANES))
        store(P, r * LANES, plus(even, odd))


@compiled
def _scatter_sparse(values, columns, starts, first, count, H, S):
    """S += H^T A, in float64."""
    for r in range(count):
        h = widen(load(H, r * LANES))
        for i in range(starts[first + r], starts[first + r + 1]):
            at = np.int64(columns[i]) * LANES
            store(S, at, add_scaled(load(S, at), values[i], h))


@compiled
def _gather_dense(values, channels, first, count, W, P):
    """P = A W^T for rows of a dense matrix: four at a time, so that W is loaded once for them."""
    last = first + count - 1
    for r in range(0, count, 4):
        # behind the last row the last one is taken again; P has room for it, nobody reads it
        a, b = (first + r) * channels, min(first + r + 1, last) * channels
        c, d = min(first + r + 2, last) * channels, min(first + r + 3, last) * channels
        one, two, three, four = zeros(W), zeros(W), zeros(W), zeros(W)
        for channel in range(channels):
            w = load(W, channel * LANES)
            one = add_scaled(one, values[a + channel], w)
            two = add_scaled(two, values[b + channel], w)
            three = add_scaled(three, values[c + channel], w)
            four = add_scaled(four, values[d + channel], w)
        store(P, r * LANES, one)
        store(P, (r + 1) * LANES, two)
        store(P, (r + 2) * LANES, three)
        store(P, (r + 3) * LANES, four)


@compiled
def _scatter_dense(values, channels, first, count, H, S):
    """S += H^T A; the few rows of a group are summed in the type of the values, then in float64."""
    for channel in range(channels):
        even, odd = zeros(H), zeros(H)
        at = first * channels + channel
        for r in range(0, count - 1, 2):
            even = add_scaled(even, values[at], load(H, r * LANES))
            odd = add_scaled(odd, values[at + channels], load(H, (r + 1) * LANES))
            at += 2 * channels
        if count % 2:
            even = add_scaled(even, values[at], load(H, (count - 1) * LANES))
        sum = load(S, channel * LANES)
        store(S, channel * LANES, plus(sum, widen(plus(even, odd))))


# -- coefficients of a group of rows -------------------------------------------------------------
#
# Q and X are [k, width], one coordinate of all rows lying together, flat; width is a multiple of
# WIDE. Where Q and X are zero, X stays zero.


@compiled
def sweep_coordinates(Q, G, X, k, width, tol, most):
    """Minimise ``tr(X^T G X) / 2 - tr(X^T Q)`` over X >= 0 in place, by coordinate descent.

    Of each 64 columns it stops after `most` sweeps over the k coordinates, or when none moved by
    more than `tol` times the largest. A coordinate with ``G[j, j] = 0`` becomes zero.
    """
    zero = zeros(X)
    for start in range(0, width, WIDE):
        for _ in range(most):
            moved, top = zero, zero
            for j in range(k):
                at = j * width + start
                if G[j, j] <= 0:
                    for of in range(at, at + WIDE, LANES):
                        store(X, of, zero)
                    continue
                a, b = load(Q, at), load(Q, at + LANES)
                c, d = load(Q, at + 2 * LANES), load(Q, at + 3 * LANES)
                for i in range(k):
                    if i != j:
                        g, of = -G[j, i], i * width + start
                        a = add_scaled(a, g, load(X, of))
                        b = add_scaled(b, g, load(X, of + LANES))
                        c = add_scaled(c, g, load(X, of + 2 * LANES))
                        d = add_scaled(d, g, load(X, of + 3 * LANES))
                scale = 1 / G[j, j]
                a = larger(add_scaled(zero, scale, a), zero)
                b = larger(add_scaled(zero, scale, b), zero)
                c = larger(add_scaled(zero, scale, c), zero)
                d = larger(add_scaled(zero, scale, d), zero)
                moved = larger(moved, distance(a, load(X, at)))
                moved = larger(moved, distance(b, load(X, at + LANES)))
                moved = larger(moved, distance(c, load(X, at + 2 * LANES)))
                moved = larger(moved, distance(d, load(X, at + 3 * LANES)))
                top = larger(top, larger(larger(a, b), larger(c, d)))
                store(X, at, a)
                store(X, at + LANES, b)
                store(X, at + 2 * LANES, c)
                store(X, at + 3 * LANES, d)
            if k == 1 or largest_of(moved) <= tol * largest_of(top):
                break


@compiled
def _solve(P, stack, rule, room, HtH, cross, H, row, count):
    """P of one group becomes H, and H^T H and tr(H^T P) of each factorization are added up."""
    G, firsts, sizes, into = stack
    multiplicative, tol, most, kept = rule
    Q, X, new = room
    for b in range(len(sizes)):
        k = sizes[b]
        for j in range(k):
            column, at = firsts[b] + j, j * GROUP
            tile, lane = column // LANES, column % LANES
            for r in range(count):
                Q[at + r] = P[tile, r * LANES + lane]
            Q[at + count : at + GROUP] = 0
            if multiplicative:
                X[at : at + count] = H[row : row + count, into[b] + j]
                X[at + count : at + GROUP] = 0
                continue
            # Without interactions Q / diag(G) would be the solution; a third of that is close to
            # where correlated factors end up, and from below fewer sweeps are needed.
            scale = 1 / (3 * G[b, j, j]) if G[b, j, j] > 0 else 0.0
            for r in range(at, at + GROUP, LANES):
                zero = zeros(X)
                store(X, r, larger(add_scaled(zero, scale, load(Q, r)), zero))
        if multiplicative:
            multiply(Q, G[b], X, k, new)
        else:
            sweep_coordinates(Q, G[b], X, k, GROUP, tol, most)
        for j in range(k):
            at = j * GROUP
            for i in range(j + 1):
                HtH[b, j, i] += _dot(X, at, X, i * GROUP)
            cross[b] += _dot(X, at, Q, at)
            column = firsts[b] + j
            tile, lane = column // LANES, column % LANES
            for r in range(count):
                P[tile, r * LANES + lane] = X[at + r]
            if multiplicative:
                H[row : row + count, into[b] + j] = X[at : at + count]
    if kept and not multiplicative:  # every column is new: whole rows, as they lie in the tiles
        for r in range(count):
            for column in range(H.shape[1]):
                H[row + r, column] = P[column // LANES, r * LANES + column % LANES]


@compiled
def _dot(left, i, right, j):
    """Sum of products of two coordinates of a group, float64."""
    sum = zeros(left)
    for at in range(0, GROUP, LANES):
        sum = add_scaled(sum, load(left, i + at), load(right, j + at))
    return total_of(widen(sum))


# -- a pass over some rows -----------------------------------------------------------------------


@compiled
def pass_over(values, columns, starts, first, last, W, stack, rule, room, sums, H, scatter):
    """Solve rows ``first : last`` of a matrix group by group and add up what W needs.

    Parameters
    ----------
    values, columns, starts
        CSR; or all values of a dense matrix and an empty `starts`. Flat.
    W : [tiles, channels * LANES]
    stack : (G [problems, k, k], firsts, sizes, into)
        Per factorization: ``W W^T``, its first column in the tiles, its k, its first column in H.
    rule : (multiplicative, tol, most, kept)
        How H is found, and whether it is put into `H`.
    room : (P [tiles, GROUP * LANES], (Q, X, new: flat [largest k * GROUP]))
    sums : (S float64 [tiles, channels * LANES], HtH float64 [problems, k, k], cross [problems])
        Added to; of HtH the lower half only.
    H : [last - first, columns]
    scatter : bool
        Whether S is wanted.
    """
    P, group_room = room
    S, HtH, cross = sums
    dense, channels = len(starts) == 0, W.shape[1] // LANES
    for row in range(first, last, GROUP):
        count = min(GROUP, last - row)
        for tile in range(len(W)):
            if dense:
                _gather_dense(values, channels, row, count, W[tile], P[tile])
            else:
                _gather_sparse(values, columns, starts, row, count, W[tile], P[tile])
        _solve(P, stack, rule, group_room, HtH, cross, H, row - first, count)
        if not scatter:
            continue
        for tile in range(len(W)):
            if dense:
                _scatter_dense(values, channels, row, count, P[tile], S[tile])
            else:
                _scatter_sparse(values, columns, starts, row, count, P[tile], S[tile])


@compiled
def sum_of_squares(flat):
    """``sum(x^2)`` in float64: NaN or infinity when a value is, of values up to 1e154."""
    sum = widen(zeros(flat))
    whole = len(flat) // LANES * LANES
    for at in range(0, whole, LANES):
        x = widen(load(flat, at))
        sum = add_scaled(sum, x, x)
    total = total_of(sum)
    for at in range(whole, len(flat)):
        total += np.float64(flat[at]) * np.float64(flat[at])
    return total
