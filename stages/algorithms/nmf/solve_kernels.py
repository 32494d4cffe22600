"""Non-negative least squares on a GPU, in Triton: H of some rows from P = A W^T and G = W W^T.

Coordinate descent, each coordinate in turn taking the value that is best for it. `solve_few` keeps
the coordinates of a row in a thread's registers, which are enough for 16 of them.
"""

import triton
import triton.language as tl


@triton.jit
def _sweep(Q, X, G, inverse, k, K: tl.constexpr):
    """One round over the coordinates of X ``[n, K]``: each takes the value that is best for it."""
    column = tl.arange(0, K)
    for j in range(0, k):
        others = tl.load(G + j * K + column)  # -G[j], 0 on the diagonal
        terms = tl.where(column[None, :] == j, Q, X * others[None, :])
        new = tl.maximum(tl.sum(terms, axis=1) * tl.load(inverse + j), 0.0)
        X = tl.where(column[None, :] == j, new[:, None], X)
    return X


@triton.jit
def least_squares(Q, X, G, inverse, k, most, tol, K: tl.constexpr):
    """Minimise ``tr(X G X^T) / 2 - tr(X Q^T)`` over X >= 0 by coordinate descent from X on.

    Ends after about `most` sweeps, or when no number moved by more than `tol` times the largest.
    """
    done = 0
    top = tl.max(X) * 0
    moved = top + 1
    while (done < most) & (moved > tol * top):
        for _ in range(0, 3):
            X = _sweep(Q, X, G, inverse, k, K)
        before = X
        X = _sweep(Q, X, G, inverse, k, K)
        moved = tl.max(tl.abs(X - before))
        top = tl.max(X)
        done += 4
    return X


@triton.jit(do_not_specialize=["columns", "first_piece", "row0", "most"])
def solve(
    P,
    G,
    inverse,
    hi,
    lo,
    scales,
    problems,
    firsts,
    sizes,
    pieces,
    first_piece,
    row0,
    grams,
    columns,
    stride,
    most,
    tol,
    HALF: tl.constexpr,
    K: tl.constexpr,
    BR: tl.constexpr,
):
    """P of a piece's rows becomes H where it lies; a piece and a problem a program.

    Parameters
    ----------
    P : [rows, columns] from row `row0` on
    G, inverse : [problems, K, K], [problems, K]
        -W W^T with 0 on the diagonal, and 1 / the diagonal (0 where that is 0).
    hi, lo, scales : float16 [rows, stride] twice, float32 [pieces, columns]
        Room for ``H = scale (hi + lo)``, as `sums` multiplies with it; HALF only.
    problems, firsts, sizes
        Which problems these are; first column and k of every problem.
    grams : float32 [pieces, problems, K + 1, K]
        H^T H; in the last row the sums of H * P.
    """
    slot = tl.program_id(1)
    problem = tl.load(problems + slot)
    first, k = tl.load(firsts + problem), tl.load(sizes + problem)
    start = tl.load(pieces + first_piece + tl.program_id(0)) - row0
    stop = tl.load(pieces + first_piece + tl.program_id(0) + 1) - row0
    G += slot * K * K
    inverse += slot * K
    column = tl.arange(0, K)
    alone = tl.load(inverse + column)
    gram = tl.zeros((K, K), tl.float32)
    cross = tl.zeros((K,), tl.float32)
    scale = tl.zeros((K,), tl.float32)
    if HALF:
        # no coefficient is larger than it would be alone
        for row in range(start, stop, BR):
            r = row + tl.arange(0, BR)
            at = P + r[:, None] * columns + first + column[None, :]
            inside = (r[:, None] < stop) & (column[None, :] < k)
            scale = tl.maximum(scale, tl.max(tl.load(at, mask=inside, other=0.0), axis=0) * alone)
        scale = tl.where(scale > 0.0, scale, 1.0)
        of_piece = scales + tl.program_id(0).to(tl.int64) * columns + first + column
        tl.store(of_piece, scale, mask=column < k)
    for row in range(start, stop, BR):
        r = row + tl.arange(0, BR)
        at = P + r[:, None] * columns + first + column[None, :]
        inside = (r[:, None] < stop) & (column[None, :] < k)
        Q = tl.load(at, mask=inside, other=0.0)
        # from below fewer sweeps are needed
        X = tl.maximum(Q, 0.0) * (alone / 3)[None, :]
        X = least_squares(Q, X, G, inverse, k, most, tol, K)
        tl.store(at, X, mask=inside)
        if HALF:
            share = X / scale[None, :]
            high = share.to(tl.float16)
            to = r[:, None] * stride + first + column[None, :]
            tl.store(hi + to, high, mask=inside)
            tl.store(lo + to, (share - high.to(tl.float32)).to(tl.float16), mask=inside)
        cross += tl.sum(Q * X, axis=0)
        for j in range(0, k):
            x = tl.sum(tl.where(column[None, :] == j, X, 0.0), axis=1)
            of_j = tl.sum(X * x[:, None], axis=0)
            gram += tl.where(column[:, None] == j, of_j[None, :], 0.0)
    out = grams + (tl.program_id(0).to(tl.int64) * tl.num_programs(1) + slot) * (K + 1) * K
    tl.store(out + column[:, None] * K + column[None, :], gram)
    tl.store(out + K * K + column, cross)


@triton.jit
def _coordinates(Q, X, G, inverse, K: tl.constexpr, M: tl.constexpr):
    """`_sweep` where Q and X are M vectors: a row's coordinates are a thread's own registers."""
    for j in tl.static_range(M):
        rest = Q[j]
        for i in tl.static_range(M):
            if i != j:
                rest += X[i] * tl.load(G + j * K + i)
        X = X[:j] + (tl.maximum(rest * tl.load(inverse + j), 0.0),) + X[j + 1 :]
    return X


@triton.jit
def _largest(vectors, M: tl.constexpr):
    found = vectors[0]
    for j in tl.static_range(1, M):
        found = tl.maximum(found, vectors[j])
    return tl.max(found)


@triton.jit
def _few_scales(P, inverse, scales, start, stop, columns, k, M: tl.constexpr, BR: tl.constexpr):
    """For each of M coordinates a number that none of its values in these rows exceeds."""
    peaks = ()
    for _ in tl.static_range(M):
        peaks = peaks + (tl.zeros((BR,), tl.float32),)
    for row in range(start, stop, BR):
        r = row + tl.arange(0, BR)
        found = ()
        for j in tl.static_range(M):
            inside = (r < stop) & (j < k)
            p = tl.load(P + r * columns + j, mask=inside, other=0.0)
            found = found + (tl.maximum(peaks[j], p),)
        peaks = found
    scale = ()
    for j in tl.static_range(M):
        # no coefficient is larger than it would be alone
        largest = tl.max(peaks[j]) * tl.load(inverse + j)
        scale = scale + (tl.where(largest > 0.0, largest, 1.0),)
        tl.store(scales + j, scale[j], mask=j < k)
    return scale


@triton.jit
def _few_least_squares(Q, X, G, inverse, most, tol, K: tl.constexpr, M: tl.constexpr):
    """`least_squares` of M vectors."""
    done = 0
    top = tl.max(X[0]) * 0
    moved = top + 1
    while (done < most) & (moved > tol * top):
        X = _coordinates(Q, X, G, inverse, K, M)
        before = X
        X = _coordinates(Q, X, G, inverse, K, M)
        apart = ()
        for j in tl.static_range(M):
            apart = apart + (tl.abs(X[j] - before[j]),)
        moved = _largest(apart, M)
        top = _largest(X, M)
        done += 2
    return X


@triton.jit
def _store_few(out, gram, cross, K: tl.constexpr, M: tl.constexpr):
    """Sums over all rows of a piece, ``[K + 1, K]``: what lies beyond M is zero."""
    for j in tl.static_range(M):
        tl.store(out + K * K + j, tl.sum(cross[j]))
        for i in tl.static_range(j + 1):
            product = tl.sum(gram[j * (j + 1) // 2 + i])
            tl.store(out + j * K + i, product)
            tl.store(out + i * K + j, product)
    for j in tl.static_range(K + 1):
        for i in tl.static_range(K):
            if i >= M or (j >= M and j < K):
                tl.store(out + j * K + i, 0.0)


@triton.jit(do_not_specialize=["columns", "first_piece", "row0", "most"])
def solve_few(
    P,
    G,
    inverse,
    hi,
    lo,
    scales,
    problems,
    firsts,
    sizes,
    pieces,
    first_piece,
    row0,
    grams,
    columns,
    stride,
    most,
    tol,
    HALF: tl.constexpr,
    K: tl.constexpr,
    M: tl.constexpr,
    BR: tl.constexpr,
):
    """`solve` for at most M coordinates, M <= 16, a warp a program.

    A row is a thread's: no coordinate is looked for among the others, none is summed over threads.
    """
    piece, slot = tl.program_id(0), tl.program_id(1)
    problem = tl.load(problems + slot)
    first, k = tl.load(firsts + problem), tl.load(sizes + problem)
    start = tl.load(pieces + first_piece + piece) - row0
    stop = tl.load(pieces + first_piece + piece + 1) - row0
    G += slot * K * K
    inverse += slot * K
    P += first
    hi += first
    lo += first
    scale = ()
    if HALF:
        of_piece = scales + piece.to(tl.int64) * columns + first
        scale = _few_scales(P, inverse, of_piece, start, stop, columns, k, M, BR)
    cross = ()
    gram = ()
    for j in tl.static_range(M):
        cross = cross + (tl.zeros((BR,), tl.float32),)
        for _ in tl.static_range(j + 1):
            gram = gram + (tl.zeros((BR,), tl.float32),)
    for row in range(start, stop, BR):
        r = row + tl.arange(0, BR)
        Q = ()
        X = ()
        for j in tl.static_range(M):
            q = tl.load(P + r * columns + j, mask=(r < stop) & (j < k), other=0.0)
            Q = Q + (q,)
            # from below fewer sweeps are needed
            X = X + (tl.maximum(q, 0.0) * (tl.load(inverse + j) / 3),)
        X = _few_least_squares(Q, X, G, inverse, most, tol, K, M)
        sums_of = ()
        products_of = ()
        for j in tl.static_range(M):
            inside = (r < stop) & (j < k)
            tl.store(P + r * columns + j, X[j], mask=inside)
            if HALF:
                share = X[j] / scale[j]
                high = share.to(tl.float16)
                tl.store(hi + r * stride + j, high, mask=inside)
                tl.store(lo + r * stride + j, (share - high.to(tl.float32)).to(tl.float16), inside)
            sums_of = sums_of + (cross[j] + Q[j] * X[j],)
            for i in tl.static_range(j + 1):
                products_of = products_of + (gram[j * (j + 1) // 2 + i] + X[j] * X[i],)
        cross = sums_of
        gram = products_of
    out = grams + (piece.to(tl.int64) * tl.num_programs(1) + slot) * (K + 1) * K
    _store_few(out, gram, cross, K, M)
