"""Numbers of fewer than 32 bits for Numba: a stretch of them becomes a vector of float32, in the vector unit.

bfloat16, which Numba does not know, comes as the uint16 of its bits: the upper half of those of a float32.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from gossamer.kernels.simd import Tile, _declare, _mask

_BYTE, _HALF, _WORD = 8, 16, 32


def _floats(builder, values, kind):
    """Turn a vector of int8, of the bits of bfloat16 or of float32 into one of float32."""
    bits = values.type.element
    if isinstance(bits, ir.FloatType):
        return values
    words = ir.VectorType(ir.IntType(_WORD), values.type.count)
    if bits.width == _BYTE:
        return builder.sitofp(builder.sext(values, words), kind)
    shift = ir.Constant(words, [_WORD - _HALF] * words.count)
    return builder.bitcast(builder.shl(builder.zext(values, words), shift), kind)


def _address(context, builder, array_type, arguments, count):
    struct = context.make_array(array_type)(context, builder, arguments[0])
    many = ir.VectorType(context.get_value_type(array_type.dtype), count)
    return builder.bitcast(builder.gep(struct.data, [arguments[1]]), many.as_pointer()), many


@intrinsic
def widen(typingctx, vector, place, lanes):
    """Return vector[place] and what stands behind it as float32, in as many lanes as `lanes` is long.

    `vector` holds float32, int8 or, as uint16, the bits of bfloat16.
    """
    result = Tile(types.float32, len(lanes))

    def codegen(context, builder, signature, arguments):
        address, _ = _address(context, builder, vector, arguments, result.lanes)
        values = builder.load(address)
        values.align = vector.dtype.bitwidth // 8
        return _floats(builder, values, context.get_value_type(result))

    return result(vector, types.intp, lanes), codegen


@intrinsic
def widen_first(typingctx, vector, place, lanes, count):
    """Return the same in the first `count` lanes and zero in the others, whose numbers are not read."""
    result = Tile(types.float32, len(lanes))

    def codegen(context, builder, signature, arguments):
        address, many = _address(context, builder, vector, arguments, result.lanes)
        mask, size = _mask(builder, result, arguments[3]), vector.dtype.bitwidth
        letter = "f" if isinstance(many.element, ir.FloatType) else "i"
        name = f"llvm.masked.load.v{many.count}{letter}{size}.p0"
        function = _declare(builder, name, many, [address.type, ir.IntType(_WORD), mask.type, many])
        align = ir.IntType(_WORD)(size // 8)
        values = builder.call(function, [address, align, mask, ir.Constant(many, None)])
        return _floats(builder, values, context.get_value_type(result))

    return result(vector, types.intp, lanes, types.intp), codegen


@intrinsic
def pick_float(typingctx, vector, place):
    """Return vector[place] alone as float32."""

    def codegen(context, builder, signature, arguments):
        struct = context.make_array(vector)(context, builder, arguments[0])
        value = builder.load(builder.gep(struct.data, [arguments[1]]))
        if isinstance(value.type, ir.FloatType):
            return value
        if value.type.width == _BYTE:
            return builder.sitofp(builder.sext(value, ir.IntType(_WORD)), ir.FloatType())
        bits = builder.shl(builder.zext(value, ir.IntType(_WORD)), ir.IntType(_WORD)(_WORD - _HALF))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(vector, types.intp), codegen
