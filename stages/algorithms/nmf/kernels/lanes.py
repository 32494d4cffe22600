"""Lanes: 16 numbers that LLVM keeps in vector registers, as one value of Numba's.

This rests on what Numba does not promise to keep (its data models, LLVM's instructions by
llvmlite): where it does not compile, the kernels are those of `plain`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from stages.algorithms.nmf.kernels.compiling import LANES, compiled

_HALF = ir.HalfType()


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
def load(typingctx, flat, at):
    """16 neighbours of a flat array, from position `at` on."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature, args)
        return builder.load(pointer, align=flat.dtype.bitwidth // 8)

    return Lanes(flat.dtype)(flat, at), build


@intrinsic
def load_number(typingctx, flat, at):
    """One number of a flat array, as float32 or float64: uint16 are the bits of float16."""
    half = flat.dtype == types.uint16
    found = types.float32 if half else flat.dtype

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        position = context.cast(builder, args[1], signature.args[1], types.intp)
        value = builder.load(builder.gep(array.data, [position]))
        return builder.fpext(builder.bitcast(value, _HALF), ir.FloatType()) if half else value

    return found(flat, at), build


@intrinsic
def load_wide(typingctx, flat, at):
    """`load`, of uint16 too: they are the bits of float16, and come as float32."""
    if flat.dtype != types.uint16:

        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = _pointer(context, builder, signature, args)
            return builder.load(pointer, align=flat.dtype.bitwidth // 8)

        return Lanes(flat.dtype)(flat, at), build

    def build_wide(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        position = context.cast(builder, args[1], signature.args[1], types.intp)
        halves = ir.VectorType(_HALF, LANES).as_pointer()
        pointer = builder.bitcast(builder.gep(array.data, [position]), halves)
        return builder.fpext(builder.load(pointer, align=2), _vector(types.float32))

    return Lanes(types.float32)(flat, at), build_wide


@intrinsic
def store(typingctx, flat, at, lanes):
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
def zeros(typingctx, flat):
    """Lanes of zeros, of the array's type; float32 for uint16, as in `load_wide`."""
    dtype = types.float32 if flat.dtype == types.uint16 else flat.dtype

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(_vector(dtype), [0.0] * LANES)

    return Lanes(dtype)(flat), build


@intrinsic
def add_scaled(typingctx, total, x, lanes):
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


plus = _elementwise(lambda ir, a, b: ir.fadd(a, b))
distance = _elementwise(lambda ir, a, b: _choose(ir, a, b, ir.fsub(a, b), ir.fsub(b, a)))
larger = _elementwise(lambda ir, a, b: _choose(ir, a, b, a, b))
smaller = _elementwise(lambda ir, a, b: _choose(ir, a, b, b, a))


@intrinsic
def widen(typingctx, lanes):
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


total_of = _across("fadd", ("reassoc",), 0.0)
largest_of = _across("fmax", ())
smallest_of = _across("fmin", ())
top_of = _across("fmax", ("nnan",))  # several times faster; of numbers only


@intrinsic
def nonzero_bits(typingctx, lanes):
    """A bit for each lane that is not zero, NaN among them; the first lane's is the lowest."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        there = builder.fcmp_unordered("!=", args[0], ir.Constant(args[0].type, [0.0] * LANES))
        return builder.zext(builder.bitcast(there, ir.IntType(LANES)), ir.IntType(64))

    return types.int64(lanes), build


@intrinsic
def lowest_bit(typingctx, bits):
    """The place of the lowest bit of a number that is not zero."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), build


# -- whether they work here ----------------------------------------------------------------------


@compiled
def _use_all(flat, room):
    """Every operation once; see `check`."""
    one, two = load(flat, 0), load(flat, LANES)
    both = plus(larger(one, two), distance(one, two))
    store(room, 0, add_scaled(add_scaled(zeros(flat), 2, both), one, two))
    return total_of(widen(both)) + largest_of(load(room, 0))


@compiled
def _compare_all(flat):
    """Those that compare once; see `check`."""
    bits = nonzero_bits(load(flat, 0))
    return smallest_of(smaller(load(flat, 0), load(flat, LANES))), bits, lowest_bit(bits)


@compiled
def _widen_all(halves, room):
    """Both ways of reading float16 once; see `check`."""
    store(room, 0, load_wide(halves, 0))
    return load_number(halves, LANES)


def check() -> None:
    """Compile every operation and compare what it gives with NumPy.

    Raises
    ------
    Exception
        Of any kind, from Numba or LLVM; ArithmeticError for a wrong number.
    """
    for dtype in (np.float32, np.float64):
        flat = (np.arange(2 * LANES) * 7 % 11).astype(dtype)  # whole numbers: no rounding
        one, two = flat[:LANES], flat[LANES:]
        both = np.maximum(one, two) + abs(one - two)
        expected, room = 2 * both + one * two, np.zeros(LANES, dtype)
        found = _use_all(flat, room)
        if found != both.sum() + expected.max() or not np.array_equal(room, expected):
            raise ArithmeticError("vector instructions give wrong numbers")
        there = np.flatnonzero(one)
        if _compare_all(flat) != (np.minimum(one, two).min(), (1 << there).sum(), there[0]):
            raise ArithmeticError("vector instructions compare wrongly")
    # all kinds: zeros, the smallest, normal ones, the largest
    few = [0.0, -0.0, 6e-8, -6e-5, 1.0, -2.5, 65504.0, 0.1]
    halves, room = np.array([*few, *few, 0.3], np.float16), np.zeros(LANES, np.float32)
    last = _widen_all(halves.view(np.uint16), room)
    if last != halves[LANES] or not np.array_equal(room, halves[:LANES]):
        raise ArithmeticError("float16 is read wrongly")
