"""The kernels as plain loops: what `vector` does, on whatever Numba compiles for.

W and S are flat [channels * LANES] per tile, P is flat [GROUP * LANES] per tile. Q and X are
[k, width], one coordinate of all rows lying together, flat. Loops run over slices, from 0: with an
offset added to the index, LLVM does not make vectors of them.
"""

import numpy as np

from stages.algorithms.nmf.kernels.compiling import GROUP, LANES, WIDE, compiled

# -- products and sums of a group of rows, one tile each -----------------------------------------


@compiled
def _gather_sparse(values, columns, starts, first, count, W, P):
    """P = A W^T for rows ``first : first + count`` of a CSR matrix."""
    P[: count * LANES] = 0
    for r in range(count):
        p = P[r * LANES :]
        for i in range(starts[first + r], starts[first + r + 1]):
            w = W[np.int64(columns[i]) * LANES :]
            for lane in range(LANES):
                p[lane] += values[i] * w[lane]


@compiled
def _scatter_sparse(values, columns, starts, first, count, H, S):
    """S += H^T A, in float64."""
    for r in range(count):
        h = H[r * LANES :]
        for i in range(starts[first + r], starts[first + r + 1]):
            s, value = S[np.int64(columns[i]) * LANES :], np.float64(values[i])
            for lane in range(LANES):
                s[lane] += value * h[lane]


# -- coefficients of a group of rows -------------------------------------------------------------


@compiled
def sweep_coordinates(Q, G, X, k, width, tol, most):
    """See `vector.sweep_coordinates`."""
    new, zero = np.empty(WIDE, X.dtype), X.dtype.type(0)
    for start in range(0, width, WIDE):
        for _ in range(most):
            moved, top = zero, zero
            for j in range(k):
                at = j * width + start
                old = X[at : at + WIDE]
                if G[j, j] <= 0:
                    old[:] = 0
                    continue
                new[:] = Q[at : at + WIDE]
                for i in range(k):
                    if i != j:
                        other, g = X[i * width + start :], G[j, i]
                        for c in range(len(new)):
                            new[c] -= g * other[c]
                scale = X.dtype.type(1 / G[j, j])
                for c in range(len(new)):
                    x = max(scale * new[c], zero)
                    moved = max(moved, abs(x - old[c]))
                    top = max(top, x)
                    old[c] = x
            if k == 1 or moved <= tol * top:
                break


@compiled
def multiply(Q, G, X, k, new):
    """``X <- X * Q / (G X)``, all coordinates at once; `new` is room for the result."""
    for at in range(k * GROUP):
        j, r = at // GROUP, at % GROUP
        below = 1.2e-38  # about the smallest normal float32
        for i in range(k):
            below += G[j, i] * X[i * GROUP + r]
        new[at] = X[at] * max(Q[at], 0) / below
    for at in range(k * GROUP):
        X[at] = new[at]


@compiled
def _dot(left, i, right, j):
    """Sum of products of two coordinates of a group, float64."""
    sum = 0.0
    for at in range(GROUP):
        sum += np.float64(left[i + at]) * np.float64(right[j + at])
    return sum


@compiled
def _solve(P, stack, rule, room, HtH, cross, H, row, count):
    """P of one group becomes H, and H^T H and tr(H^T P) of each factorization are added up."""
    G, firsts, sizes, into = stack
    multiplicative, tol, most, kept = rule
    Q, X, new = room
    for b in range(len(sizes)):
        k = sizes[b]
        Q[: k * GROUP] = 0
        X[: k * GROUP] = 0
        for j in range(k):
            column = firsts[b] + j
            scale = 1 / (3 * G[b, j, j]) if G[b, j, j] > 0 else 0.0  # as in `vector`
            for r in range(count):
                at = j * GROUP + r
                Q[at] = P[column // LANES, r * LANES + column % LANES]
                X[at] = H[row + r, into[b] + j] if multiplicative else max(scale * Q[at], 0)
        if multiplicative:
            multiply(Q, G[b], X, k, new)
        else:
            sweep_coordinates(Q, G[b], X, k, GROUP, tol, most)
        for j in range(k):
            for i in range(j + 1):
                HtH[b, j, i] += _dot(X, j * GROUP, X, i * GROUP)
            cross[b] += _dot(X, j * GROUP, Q, j * GROUP)
            column = firsts[b] + j
            for r in range(count):
                x = X[j * GROUP + r]
                P[column // LANES, r * LANES + column % LANES] = x
                if kept:
                    H[row + r, into[b] + j] = x


# -- a pass over some rows -----------------------------------------------------------------------


@compiled
def pass_over(values, columns, starts, first, last, W, stack, rule, room, sums, H, scatter):
    """See `vector.pass_over`."""
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


def dense_pass_over(values, channels, W, stack, rule, room, sums, H, scatter):  # type: ignore[no-untyped-def]
    """See `vector.dense_pass_over`."""
    _dense_pass(_as_numbers(values), channels, W, stack, rule, room, sums, H, scatter)


@compiled
def _dense_pass(values, channels, W, stack, rule, room, sums, H, scatter):
    P, group_room, _ = room
    S, HtH, cross = sums
    A = values.reshape((-1, channels))
    factors = np.ascontiguousarray(W[:, :channels].T)
    of_group = np.empty((GROUP, len(W)), W.dtype)
    for row in range(0, len(A), GROUP):
        part = A[row : row + GROUP]
        found = np.dot(part, factors)
        for r in range(len(part)):
            for column in range(len(W)):
                P[column // LANES, r * LANES + column % LANES] = found[r, column]
        _solve(P, stack, rule, group_room, HtH, cross, H, row, len(part))
        if not scatter:
            continue
        for r in range(len(part)):
            for column in range(len(W)):
                of_group[r, column] = P[column // LANES, r * LANES + column % LANES]
        S[:, :channels] += np.dot(np.ascontiguousarray(of_group[: len(part)].T), part)


def squares(flat):  # type: ignore[no-untyped-def]
    """See `vector.squares`."""
    return _squares(_as_numbers(flat))


def _as_numbers(flat):  # type: ignore[no-untyped-def]
    """float32 of what are the bits of float16."""
    return flat.view(np.float16).astype(np.float32) if flat.dtype == np.uint16 else flat


@compiled
def _squares(flat):
    sum, least = 0.0, 0.0
    for x in flat:
        sum += np.float64(x) * np.float64(x)
        least = min(least, np.float64(x))
    return sum, least


def compact(values, channels, most, numbers, columns, starts):  # type: ignore[no-untyped-def]
    """See `vector.compact`."""
    return _compact(_as_numbers(values), channels, most, numbers, columns, starts)


@compiled
def _compact(values, channels, most, numbers, columns, starts):
    found, rows = 0, len(starts) - 1
    for row in range(rows):
        for column in range(channels):
            number = values[row * channels + column]
            if number != 0:
                numbers[found] = number
                columns[found] = column
                found += 1
        starts[row + 1] = found
        if found > (row + 1) * most + rows * most // 16:
            return -1
    return found
