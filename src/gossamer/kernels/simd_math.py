"""Arithmetic on tiles, and the activations of recurrent layers from it.

The exponential is a Taylor polynomial around the nearest multiple of ln 2, correct to about one unit in the last place;
NaN stays NaN.
"""

import math

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from gossamer.kernels.simd import _declare, _element_pointer, _llvm_name

_options = {"nogil": True, "cache": True, "error_model": "numpy"}

# Terms of the polynomial, and the high and low part of ln 2: the high part times an exponent is exact.
_TERMS = {32: 8, 64: 14}
_LN2 = {32: (0.693359375, -2.12194440054690583e-4), 64: (0.693145751953125, 1.42860682030941723e-6)}
# Beyond this both activations are what they are at infinity, and nothing overflows.
_LARGEST = {32: 40.0, 64: 80.0}
_MANTISSA, _BIAS = {32: 23, 64: 52}, {32: 127, 64: 1023}


def _binary(name):
    @intrinsic
    def operation(typingctx, left, right):
        def codegen(context, builder, signature, arguments):
            return getattr(builder, name)(*arguments)

        return left(left, right), codegen

    return operation


add = _binary("fadd")
subtract = _binary("fsub")
multiply = _binary("fmul")
divide = _binary("fdiv")


@intrinsic
def where_positive(typingctx, condition, tile):
    """Return the tile where the condition is positive, else zero."""

    def codegen(context, builder, signature, arguments):
        zero = ir.Constant(arguments[0].type, None)
        # Unordered: where the condition is NaN the tile passes, and with it NaN.
        return builder.select(builder.fcmp_unordered(">", arguments[0], zero), arguments[1], zero)

    return tile(condition, tile), codegen


@intrinsic
def prefetch(typingctx, array, row, column):
    """Ask for array[row, column], which may lie outside, to be in the cache when it is needed."""

    def codegen(context, builder, signature, arguments):
        _prefetch(builder, _element_pointer(context, builder, array, *arguments))
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp), codegen


@intrinsic
def prefetch_vector(typingctx, array, place):
    """Ask for array[place], which may lie outside, to be in the cache when it is needed."""

    def codegen(context, builder, signature, arguments):
        struct = context.make_array(array)(context, builder, arguments[0])
        _prefetch(builder, builder.gep(struct.data, [arguments[1]]))
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


def _prefetch(builder, element):
    place, small = builder.bitcast(element, ir.IntType(8).as_pointer()), ir.IntType(32)
    function = _declare(builder, "llvm.prefetch.p0", ir.VoidType(), [place.type, small, small, small])
    builder.call(function, [place, small(0), small(3), small(1)])


@intrinsic
def expm1(typingctx, tile):
    """Return exp(x) - 1, where x is first moved into a range without overflow."""

    def codegen(context, builder, signature, arguments):
        bits, vector = tile.dtype.bitwidth, arguments[0].type
        x = _clamped(builder, arguments[0], _LARGEST[bits])
        fma = _declare(builder, f"llvm.fma.{_llvm_name(vector)}", vector, [vector] * 3)
        # Beside so large a number only whole ones fit: the sum is rounded, and ends in the bits of the exponent.
        large = _constant(vector, 1.5 * 2.0 ** _MANTISSA[bits])
        shifted = builder.call(fma, [x, _constant(vector, 1 / math.log(2)), large])
        exponent = builder.fsub(shifted, large)
        rest = x
        for part in _LN2[bits]:
            rest = builder.call(fma, [exponent, _constant(vector, -part), rest])
        terms = range(_TERMS[bits] - 1, 0, -1)
        total = _constant(vector, 1 / math.factorial(_TERMS[bits]))
        for term in terms:
            total = builder.call(fma, [total, rest, _constant(vector, 1 / math.factorial(term))])
        power = _power_of_two(builder, shifted, bits)
        # 2^n (e^r - 1) + (2^n - 1): near zero n is 0, and no digit is lost.
        less_one = builder.fsub(power, _constant(vector, 1.0))
        return builder.call(fma, [power, builder.fmul(total, rest), less_one])

    return tile(tile), codegen


def _constant(vector, value):
    return ir.Constant(vector, [ir.Constant(vector.element, value)] * vector.count)


def _clamped(builder, x, largest):
    for sign, bound in ((">", largest), ("<", -largest)):
        limit = _constant(x.type, bound)
        # Ordered: NaN is neither, and passes.
        x = builder.select(builder.fcmp_ordered(sign, x, limit), limit, x)
    return x


def _power_of_two(builder, shifted, bits):
    vector = shifted.type
    integers = ir.VectorType(ir.IntType(bits), vector.count)

    def fixed(value):
        return ir.Constant(integers, [value] * vector.count)

    whole = builder.add(builder.bitcast(shifted, integers), fixed(_BIAS[bits]))
    return builder.bitcast(builder.shl(whole, fixed(_MANTISSA[bits])), vector)


@intrinsic
def constant(typingctx, like, value):
    """Return a tile of the same type with a number in every lane."""

    def codegen(context, builder, signature, arguments):
        vector = arguments[0].type
        single = arguments[1]
        if isinstance(vector.element, ir.FloatType):
            single = builder.fptrunc(single, vector.element)
        undefined = ir.Constant(vector, ir.Undefined)
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
        return builder.shuffle_vector(builder.insert_element(undefined, single, ir.IntType(32)(0)), undefined, lanes)

    return like(like, types.float64), codegen


@njit(**_options)
def sigmoid(x):
    """Return 1 / (1 + exp(-x))."""
    return divide(constant(x, 1.0), add(constant(x, 2.0), expm1(subtract(constant(x, 0.0), x))))


@njit(**_options)
def tanh(x):
    """Return (exp(2 x) - 1) / (exp(2 x) + 1)."""
    grown = expm1(add(x, x))
    return divide(grown, add(grown, constant(x, 2.0)))


@njit(**_options)
def one_less(x):
    """Return 1 - x."""
    return subtract(constant(x, 1.0), x)
