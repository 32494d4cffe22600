"""The compiled inner loops of a pass over the rows on a CPU.

A pass does three things to each group of rows while it is in the cache: P = A W^T, the coefficients
H from P and G = W W^T, and the sums H^T A and H^T H. The factors of all factorizations lie side by
side in tiles of `LANES`, so that one non-zero of A costs one vector instruction per tile whatever
the k's are.

Numba's own loops come out scalar here (it cannot know that the arrays do not overlap), five times
slower; hence `Lanes`, a value of 16 numbers that LLVM keeps in vector registers.

All in one file: Numba's cache of compiled code sees a change of the function's own file only.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

LANES = 16
GROUP = 128  # rows that are gathered, solved and scattered together: W is read once for them
WIDE = 4 * LANES  # rows that are solved side by side


def _compiled(function: Callable[..., Any]) -> Any:
    """Compiled on first use and kept on disk, where there is a place that can be written to."""
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # no such place
        return njit(**options)(function)


# -- lanes: 16 numbers as one value --------------------------------------------------------------


class Lanes(types.Type):
    """The Numba type of 16 float32 or float64 side by side."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"Lanes({dtype})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Lanes) -> None:
        super().__init__(manager, fe_type, _vector(fe_type.dtype))


def _vector(dtype: Any) -> ir.VectorType:
    return ir.VectorType(ir.FloatType() if dtype == types.float32 else ir.DoubleType(), LANES)


def _pointer(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    flat = context.make_array(signature.args[0])(context, builder, args[0])
    at = context.cast(builder, args[1], signature.args[1], types.intp)
    lanes = _vector(signature.args[0].dtype)
    return builder.bitcast(builder.gep(flat.data, [at]), lanes.as_pointer())


@intrinsic
def _load(typingctx, flat, at):
    """16 neighbours of a flat array, from position `at` on."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature, args)
        return builder.load(pointer, align=flat.dtype.bitwidth // 8)

    return Lanes(flat.dtype)(flat, at), build


@intrinsic
def _store(typingctx, flat, at, lanes):
    """Put lanes into a flat array, from position `at` on."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature, args)
        builder.store(args[2], pointer, align=flat.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(flat, at, lanes), build


def _everywhere(builder: Any, number: Any, vector: ir.VectorType) -> Any:
    """Lanes that all hold `number`."""
    nothing = ir.Constant(vector, ir.Undefined)
    zero = ir.Constant(ir.IntType(32), 0)
    one = builder.insert_element(nothing, number, zero)
    mask = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, nothing, mask)


@intrinsic
def _zeros(typingctx, flat):
    """Lanes of zeros, of the array's type."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(_vector(flat.dtype), [0.0] * LANES)

    return Lanes(flat.dtype)(flat), build


@intrinsic
def _add_scaled(typingctx, total, x, lanes):
    """``total + x * lanes``, fused where the machine can; x is a number or lanes."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        total, factor, lanes = args
        vector = _vector(signature.return_type.dtype)
        if not isinstance(x, Lanes):
            number = context.cast(builder, factor, x, signature.return_type.dtype)
            factor = _everywhere(builder, number, vector)
        product = builder.fmul(factor, lanes, flags=("contract",))
        return builder.fadd(total, product, flags=("contract",))

    return total(total, x, lanes), build


def _elementwise(operate: Callable[[Any, Any, Any], Any]) -> Any:
    """An operation of two lanes that gives lanes."""

    @intrinsic
    def operation(typingctx, left, right):
        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return operate(builder, args[0], args[1])

        return left(left, right), build

    return operation


def _choose(builder: Any, left: Any, right: Any, yes: Any, no: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", left, right), yes, no)


_plus = _elementwise(lambda ir, a, b: ir.fadd(a, b))
_distance = _elementwise(lambda ir, a, b: _choose(ir, a, b, ir.fsub(a, b), ir.fsub(b, a)))
_larger = _elementwise(lambda ir, a, b: _choose(ir, a, b, a, b))


@intrinsic
def _widen(typingctx, lanes):
    """The lanes as float64."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide = lanes.dtype == types.float64
        return args[0] if wide else builder.fpext(args[0], _vector(types.float64))

    return Lanes(types.float64)(lanes), build


def _across(name: str, flags: tuple[str, ...], *start: float) -> Any:
    """A reduction of lanes to one number, by LLVM's name for it."""

    @intrinsic
    def reduction(typingctx, lanes):
        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            vector = _vector(lanes.dtype)
            before = [ir.Constant(vector.element, number) for number in start]
            kind = ir.FunctionType(vector.element, [vector.element] * len(start) + [vector])
            full = f"llvm.vector.reduce.{name}.v{LANES}f{lanes.dtype.bitwidth}"
            reduce = cgutils.get_or_insert_function(builder.module, kind, full)
            return builder.call(reduce, [*before, args[0]], fastmath=flags)

        return lanes.dtype(lanes), build

    return reduction


_total = _across("fadd", ("reassoc",), 0.0)
_largest = _across("fmax", ())


# -- products and sums of a group of rows --------------------------------------------------------
#
# One tile each. W and S are flat [channels * LANES], P and H flat [GROUP * LANES].


@_compiled
def _gather_sparse(values, columns, starts, first, count, W, P):
    """P = A W^T for rows ``first : first + count`` of a CSR matrix."""
    for r in range(count):
        # two sums, so that one product need not wait for the one before
        even = _zeros(W)
        odd = _zeros(W)
        end = starts[first + r + 1]
        at = starts[first + r]
        while at + 1 < end:
            even = _add_scaled(even, values[at], _load(W, np.int64(columns[at]) * LANES))
            odd = _add_scaled(odd, values[at + 1], _load(W, np.int64(columns[at + 1]) * LANES))
            at += 2
        if at < end:
            even = _add_scaled(even, values[at], _load(W, np.int64(columns[at]) * LANES))
        _store(P, r * LANES, _plus(even, odd))


@_compiled
def _scatter_sparse(values, columns, starts, first, count, H, S):
    """S += H^T A, in float64."""
    for r in range(count):
        h = _widen(_load(H, r * LANES))
        for i in range(starts[first + r], starts[first + r + 1]):
            at = np.int64(columns[i]) * LANES
            _store(S, at, _add_scaled(_load(S, at), values[i], h))


@_compiled
def _gather_dense(values, channels, first, count, W, P):
    """P = A W^T for rows of a dense matrix: four at a time, so that W is loaded once for them."""
    last = first + count - 1
    for r in range(0, count, 4):
        # behind the last row the last one is taken again; P has room for it, nobody reads it
        a, b = (first + r) * channels, min(first + r + 1, last) * channels
        c, d = min(first + r + 2, last) * channels, min(first + r + 3, last) * channels
        one, two, three, four = _zeros(W), _zeros(W), _zeros(W), _zeros(W)
        for channel in range(channels):
            w = _load(W, channel * LANES)
            one = _add_scaled(one, values[a + channel], w)
            two = _add_scaled(two, values[b + channel], w)
            three = _add_scaled(three, values[c + channel], w)
            four = _add_scaled(four, values[d + channel], w)
        _store(P, r * LANES, one)
        _store(P, (r + 1) * LANES, two)
        _store(P, (r + 2) * LANES, three)
        _store(P, (r + 3) * LANES, four)


@_compiled
def _scatter_dense(values, channels, first, count, H, S):
    """S += H^T A; the few rows of a group are summed in the type of the values, then in float64."""
    for channel in range(channels):
        even, odd = _zeros(H), _zeros(H)
        at = first * channels + channel
        for r in range(0, count - 1, 2):
            even = _add_scaled(even, values[at], _load(H, r * LANES))
            odd = _add_scaled(odd, values[at + channels], _load(H, (r + 1) * LANES))
            at += 2 * channels
        if count % 2:
            even = _add_scaled(even, values[at], _load(H, (count - 1) * LANES))
        sum = _load(S, channel * LANES)
        _store(S, channel * LANES, _plus(sum, _widen(_plus(even, odd))))


# -- coefficients of a group of rows -------------------------------------------------------------
#
# Q and X are [k, width], one coordinate of all rows lying together, flat; width is a multiple of
# WIDE. Where Q and X are zero, X stays zero.


@_compiled
def sweep_coordinates(Q, G, X, k, width, tol, most):
    """Minimise ``tr(X^T G X) / 2 - tr(X^T Q)`` over X >= 0 in place, by coordinate descent.

    Of each 64 columns it stops after `most` sweeps over the k coordinates, or when none moved by
    more than `tol` times the largest. A coordinate with ``G[j, j] = 0`` becomes zero.
    """
    zero = _zeros(X)
    for start in range(0, width, WIDE):
        for _ in range(most):
            moved, top = zero, zero
            for j in range(k):
                at = j * width + start
                if G[j, j] <= 0:
                    for of in range(at, at + WIDE, LANES):
                        _store(X, of, zero)
                    continue
                a, b = _load(Q, at), _load(Q, at + LANES)
                c, d = _load(Q, at + 2 * LANES), _load(Q, at + 3 * LANES)
                for i in range(k):
                    if i != j:
                        g, of = -G[j, i], i * width + start
                        a = _add_scaled(a, g, _load(X, of))
                        b = _add_scaled(b, g, _load(X, of + LANES))
                        c = _add_scaled(c, g, _load(X, of + 2 * LANES))
                        d = _add_scaled(d, g, _load(X, of + 3 * LANES))
                scale = 1 / G[j, j]
                a = _larger(_add_scaled(zero, scale, a), zero)
                b = _larger(_add_scaled(zero, scale, b), zero)
                c = _larger(_add_scaled(zero, scale, c), zero)
                d = _larger(_add_scaled(zero, scale, d), zero)
                moved = _larger(moved, _distance(a, _load(X, at)))
                moved = _larger(moved, _distance(b, _load(X, at + LANES)))
                moved = _larger(moved, _distance(c, _load(X, at + 2 * LANES)))
                moved = _larger(moved, _distance(d, _load(X, at + 3 * LANES)))
                top = _larger(top, _larger(_larger(a, b), _larger(c, d)))
                _store(X, at, a)
                _store(X, at + LANES, b)
                _store(X, at + 2 * LANES, c)
                _store(X, at + 3 * LANES, d)
            if k == 1 or _largest(moved) <= tol * _largest(top):
                break


@_compiled
def _multiply(Q, G, X, k, new):
    """``X <- X * Q / (G X)``, all coordinates at once; `new` is room for the result."""
    for at in range(k * GROUP):
        j, r = at // GROUP, at % GROUP
        below = 1.2e-38  # about the smallest normal float32
        for i in range(k):
            below += G[j, i] * X[i * GROUP + r]
        new[at] = X[at] * max(Q[at], 0) / below
    for at in range(k * GROUP):
        X[at] = new[at]


@_compiled
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
                zero = _zeros(X)
                _store(X, r, _larger(_add_scaled(zero, scale, _load(Q, r)), zero))
        if multiplicative:
            _multiply(Q, G[b], X, k, new)
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


@_compiled
def _dot(left, i, right, j):
    """Sum of products of two coordinates of a group, float64."""
    sum = _zeros(left)
    for at in range(0, GROUP, LANES):
        sum = _add_scaled(sum, _load(left, i + at), _load(right, j + at))
    return _total(_widen(sum))


# -- a pass over some rows -----------------------------------------------------------------------


@_compiled
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


@_compiled
def sum_of_squares(flat):
    """``sum(x^2)`` in float64: NaN or infinity when a value is, of values up to 1e154."""
    sum = _widen(_zeros(flat))
    whole = len(flat) // LANES * LANES
    for at in range(0, whole, LANES):
        x = _widen(_load(flat, at))
        sum = _add_scaled(sum, x, x)
    total = _total(sum)
    for at in range(whole, len(flat)):
        total += np.float64(flat[at]) * np.float64(flat[at])
    return total
