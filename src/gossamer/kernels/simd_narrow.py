"""Numbers of fewer than 32 bits for Numba: a stretch of them becomes a vector of float32, in the vector unit.

bfloat16, which Numba does not know, comes as the uint16 of its bits: the upper half of those of a float32.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from gossamer.kernels.simd import Tile, _declare, _mask, _splat, _tile

_BYTE, _HALF, _WORD = 8, 16, 32
# What `splat_widened` reads before a number, at most: two of bfloat16 make a word.
BEFORE = 1


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
def pick_widened(typingctx, vector, place):
    """Return vector[place] alone as float32."""

    def codegen(context, builder, signature, arguments):
        struct = context.make_array(vector)(context, builder, arguments[0])
        value = builder.load(builder.gep(struct.data, [arguments[1]]))
        if isinstance(value.type, ir.FloatType):
            return value
        word = ir.IntType(_WORD)
        if value.type.width == _BYTE:
            return builder.sitofp(builder.sext(value, word), ir.FloatType())
        return builder.bitcast(builder.shl(builder.zext(value, word), word(_WORD - _HALF)), ir.FloatType())

    return types.float32(vector, types.intp), codegen


@intrinsic
def splat_widened(typingctx, vector, place, width):
    """Return a tile with vector[place] as float32 in every lane; `BEFORE` numbers before it may be read too.

    One load of 32 bits into all lanes and a mask there take fewer steps than to widen one number and to spread it.
    """
    result = _tile(types.float32, width)

    def codegen(context, builder, signature, arguments):
        struct = context.make_array(vector)(context, builder, arguments[0])
        address = builder.gep(struct.data, [arguments[1]])
        kind = context.get_value_type(result)
        if vector.dtype.bitwidth == _BYTE:
            return _splat(builder, kind, _looked_up(builder, builder.load(address)))
        words = ir.VectorType(ir.IntType(_WORD), kind.count)
        unused = _WORD - vector.dtype.bitwidth
        # The value is the upper half of the word that ends with it.
        address = builder.gep(address, [ir.IntType(64)(-unused // vector.dtype.bitwidth)])
        value = builder.load(builder.bitcast(address, words.element.as_pointer()))
        value.align = vector.dtype.bitwidth // 8
        upper = ir.Constant(words, [(1 << _WORD) - (1 << unused)] * words.count)
        return builder.bitcast(builder.and_(_splat(builder, words, value), upper), kind)

    return result(vector, types.intp, width), codegen


def _looked_up(builder, byte):
    """Return the float32 of an int8 from a table of all: a load is cheaper than three steps in the vector unit."""
    table = ir.ArrayType(ir.FloatType(), 1 << _BYTE)
    name = "gossamer_floats_of_int8"
    if name not in builder.module.globals:
        constant = ir.GlobalVariable(builder.module, table, name)
        constant.linkage, constant.global_constant = "internal", True
        constant.initializer = ir.Constant(table, [float(number) for number in (*range(128), *range(-128, 0))])
    place = builder.zext(byte, ir.IntType(64))
    return builder.load(builder.gep(builder.module.globals[name], [ir.IntType(64)(0), place]))
