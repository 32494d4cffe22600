"""The kernels by vector instructions: one for the 16 factors of a tile, whatever the k's are.

Numba's own loops come out scalar here (it cannot know that the arrays do not overlap), five times
slower; hence `lanes`. What is computed is told more simply by `plain`.
"""

import numpy as np

from stages.algorithms.nmf.kernels.compiling import GROUP, LANES, PAIR, WIDE, compiled
from stages.algorithms.nmf.kernels.lanes import (
    add_scaled,
    check,
    distance,
    larger,
    largest_of,
    load,
    load_number,
    load_wide,
    lowest_bit,
    nonzero_bits,
    plus,
    smaller,
    smallest_of,
    store,
    total_of,
    widen,
    zeros,
)
from stages.algorithms.nmf.kernels.plain import multiply

__all__ = ["check", "compact", "dense_pass_over", "pass_over", "squares", "sweep_coordinates"]

AT_ONCE = 16  # rows of a group that are taken and multiplied while they are in the nearest cache

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


# -- the same of dense rows ----------------------------------------------------------------------
#
# Here lanes are neighbouring channels: the few columns of one factorization would leave most lanes
# of a tile empty. A group of rows is read once, float16 as it is, into a block that stays in the
# cache, [GROUP * stride] flat. W and S are [columns, width], columns a multiple of `PAIR`, width of
# WIDE. Of four rows (or WIDE channels) and two columns all sums are in registers.


@compiled
def _take(values, channels, first, count, block, at, stride):
    """Rows ``first : first + count`` of a dense matrix into a block, from place `at` on."""
    whole = channels // LANES * LANES
    for r in range(count):
        source, to = (first + r) * channels, at + r * stride
        for channel in range(0, whole, LANES):
            store(block, to + channel, load_wide(values, source + channel))
        for channel in range(whole, channels):
            block[to + channel] = load_number(values, source + channel)


@compiled
def _gather_dense(block, stride, first, count, W, P):
    """P = A W^T for rows ``first : first + count`` of a block, and up to three behind them."""
    columns, width = W.shape
    flat = W.reshape(-1)
    for column in range(0, columns, PAIR):
        tile, lane = column // LANES, column % LANES
        one, two = column * width, (column + 1) * width
        for r in range(first, first + count, 4):
            at = r * stride
            a1, b1, c1, d1 = zeros(block), zeros(block), zeros(block), zeros(block)
            a2, b2, c2, d2 = zeros(block), zeros(block), zeros(block), zeros(block)
            for channel in range(0, width, LANES):
                w1, w2 = load(flat, one + channel), load(flat, two + channel)
                x = load(block, at + channel)
                a1, a2 = add_scaled(a1, x, w1), add_scaled(a2, x, w2)
                x = load(block, at + stride + channel)
                b1, b2 = add_scaled(b1, x, w1), add_scaled(b2, x, w2)
                x = load(block, at + 2 * stride + channel)
                c1, c2 = add_scaled(c1, x, w1), add_scaled(c2, x, w2)
                x = load(block, at + 3 * stride + channel)
                d1, d2 = add_scaled(d1, x, w1), add_scaled(d2, x, w2)
            to = r * LANES + lane
            P[tile, to], P[tile, to + 1] = total_of(a1), total_of(a2)
            P[tile, to + LANES], P[tile, to + LANES + 1] = total_of(b1), total_of(b2)
            P[tile, to + 2 * LANES], P[tile, to + 2 * LANES + 1] = total_of(c1), total_of(c2)
            P[tile, to + 3 * LANES], P[tile, to + 3 * LANES + 1] = total_of(d1), total_of(d2)


@compiled
def _scatter_dense(block, stride, count, H, S):
    """S += H^T A; the few rows of a group are summed in the type of the values, then in float64."""
    columns, width = S.shape
    flat = S.reshape(-1)
    for channel in range(0, width, WIDE):
        for column in range(0, columns, PAIR):
            tile, lane = column // LANES, column % LANES
            a1, b1, c1, d1 = zeros(block), zeros(block), zeros(block), zeros(block)
            a2, b2, c2, d2 = zeros(block), zeros(block), zeros(block), zeros(block)
            for r in range(count):
                h1, h2 = H[tile, r * LANES + lane], H[tile, r * LANES + lane + 1]
                at = r * stride + channel
                x = load(block, at)
                a1, a2 = add_scaled(a1, h1, x), add_scaled(a2, h2, x)
                x = load(block, at + LANES)
                b1, b2 = add_scaled(b1, h1, x), add_scaled(b2, h2, x)
                x = load(block, at + 2 * LANES)
                c1, c2 = add_scaled(c1, h1, x), add_scaled(c2, h2, x)
                x = load(block, at + 3 * LANES)
                d1, d2 = add_scaled(d1, h1, x), add_scaled(d2, h2, x)
            _add_wide(flat, column * width + channel, a1, b1, c1, d1)
            _add_wide(flat, (column + 1) * width + channel, a2, b2, c2, d2)


@compiled
def _add_wide(flat, at, a, b, c, d):
    store(flat, at, plus(load(flat, at), widen(a)))
    store(flat, at + LANES, plus(load(flat, at + LANES), widen(b)))
    store(flat, at + 2 * LANES, plus(load(flat, at + 2 * LANES), widen(c)))
    store(flat, at + 3 * LANES, plus(load(flat, at + 3 * LANES), widen(d)))


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
                for r in range(count):
                    X[at + r] = H[row + r, into[b] + j]
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
                for r in range(count):
                    H[row + r, into[b] + j] = X[at + r]
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
    """Solve rows ``first : last`` of a CSR matrix group by group and add up what W needs.

    Parameters
    ----------
    values, columns, starts : flat
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
    for row in range(first, last, GROUP):
        count = min(GROUP, last - row)
        for tile in range(len(W)):
            _gather_sparse(values, columns, starts, row, count, W[tile], P[tile])
        _solve(P, stack, rule, group_room, HtH, cross, H, row - first, count)
        if scatter:
            for tile in range(len(W)):
                _scatter_sparse(values, columns, starts, row, count, P[tile], S[tile])


@compiled
def dense_pass_over(values, channels, W, stack, rule, room, sums, H, scatter):
    """`pass_over` of all rows of a dense matrix.

    Parameters
    ----------
    values : flat [rows * channels]
        Of the type of W; or uint16, which are the bits of float16, and W is float32.
    W : [columns, width]
        Columns a multiple of `PAIR`, width of WIDE; zero where there is no factor or channel.
    stack, rule, H, scatter
        As there.
    room : (P [tiles, GROUP * LANES], (Q, X, new), block: flat [GROUP * stride])
        Zero; stride above the width.
    sums : (S float64 [columns, width], HtH, cross)
    """
    P, group_room, block = room
    S, HtH, cross = sums
    rows, stride = len(values) // channels, len(block) // GROUP
    for row in range(0, rows, GROUP):
        count = min(GROUP, rows - row)
        for r in range(0, count, AT_ONCE):
            some = min(AT_ONCE, count - r)
            _take(values, channels, row + r, some, block, r * stride, stride)
            _gather_dense(block, stride, r, some, W, P)
        _solve(P, stack, rule, group_room, HtH, cross, H, row, count)
        if scatter:
            _scatter_dense(block, stride, count, P, S)


@compiled
def squares(flat):
    """``sum(x^2)`` in float64, NaN or infinity when a value is, of values up to 1e154; the least x.

    uint16 are the bits of float16. The least is 0 at most, and says nothing where there is NaN.
    """
    sum, least = widen(zeros(flat)), zeros(flat)
    whole = len(flat) // LANES * LANES
    for at in range(0, whole, LANES):
        found = load_wide(flat, at)
        least = smaller(least, found)
        x = widen(found)
        sum = add_scaled(sum, x, x)
    total, lowest = total_of(sum), np.float64(smallest_of(least))
    for at in range(whole, len(flat)):
        number = np.float64(load_number(flat, at))
        total += number * number
        lowest = min(lowest, number)
    return total, lowest


@compiled
def compact(values, channels, most, numbers, columns, starts):
    """Dense rows as the values, columns and starts of a CSR matrix.

    It gives up as soon as there are more than `most` non-zeros a row, and a sixteenth of what would
    be allowed for all rows.

    Parameters
    ----------
    values : flat [rows * channels]
        uint16 are the bits of float16.
    channels, most : int
    numbers, columns : flat, with room for ``rows * most * 17 / 16`` and a row more
    starts : int [rows + 1]
        The first is 0.

    Returns
    -------
    int
        Non-zeros; -1 when it gave up.
    """
    found, rows = 0, len(starts) - 1
    whole, spare = channels // LANES * LANES, rows * most // 16
    for row in range(rows):
        at = row * channels
        for channel in range(0, whole, LANES):
            bits = nonzero_bits(load_wide(values, at + channel))
            while bits != 0:
                column = channel + lowest_bit(bits)
                numbers[found] = load_number(values, at + column)
                columns[found] = column
                found += 1
                bits &= bits - 1
        for column in range(whole, channels):
            number = load_number(values, at + column)
            if number != 0:
                numbers[found] = number
                columns[found] = column
                found += 1
        starts[row + 1] = found
        if found > (row + 1) * most + spare:
            return -1
    return found
