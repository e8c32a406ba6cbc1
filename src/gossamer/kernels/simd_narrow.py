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
    """Return a tile with vector[place] as float32 in every lane; `BEFORE` numbers before it may be read too."""
    result = _tile(types.float32, width)

    def codegen(context, builder, signature, arguments):
        address = builder.gep(_data(context, builder, vector, arguments), [arguments[1]])
        kind = context.get_value_type(result)
        if vector.dtype.bitwidth == _BYTE:
            place = builder.zext(builder.load(address), ir.IntType(64))
            return _splat(builder, kind, _looked_up(builder, place))
        return _spread(builder, vector, address, kind)

    return result(vector, types.intp, width), codegen


@intrinsic
def splat_four(typingctx, vector, place, width):
    """Return what `splat_widened` does for vector[place] and for the three numbers behind it."""
    result = _tile(types.float32, width)

    def codegen(context, builder, signature, arguments):
        address = builder.gep(_data(context, builder, vector, arguments), [arguments[1]])
        kind = context.get_value_type(result)
        if vector.dtype.bitwidth == _BYTE:
            tiles = [_splat(builder, kind, _looked_up(builder, place)) for place in _four(builder, vector, address)]
        elif vector.dtype.bitwidth == _HALF:
            pairs = [_pair(builder, builder.gep(address, [ir.IntType(64)(k)]), kind) for k in (0, 2)]
            tiles = [*pairs[0], *pairs[1]]
        else:
            addresses = [builder.gep(address, [ir.IntType(64)(k)]) for k in range(4)]
            tiles = [_spread(builder, vector, each, kind) for each in addresses]
        return context.make_tuple(builder, signature.return_type, tiles)

    return types.UniTuple(result, 4)(vector, types.intp, width), codegen


@intrinsic
def pick_four(typingctx, vector, place):
    """Return vector[place] and the three integers behind it as int64: loaded as one word where it holds them."""

    def codegen(context, builder, signature, arguments):
        address = builder.gep(_data(context, builder, vector, arguments), [arguments[1]])
        return context.make_tuple(builder, signature.return_type, _four(builder, vector, address))

    return types.UniTuple(types.int64, 4)(vector, types.intp), codegen


def _data(context, builder, vector, arguments):
    return context.make_array(vector)(context, builder, arguments[0]).data


def _four(builder, vector, address):
    """Four integers that follow each other, none of them below zero."""
    long, size = ir.IntType(64), vector.dtype.bitwidth
    if 4 * size > long.width:
        each = [builder.load(builder.gep(address, [long(k)])) for k in range(4)]
        return [builder.zext(value, long) if size < long.width else value for value in each]
    word = builder.load(builder.bitcast(address, ir.IntType(4 * size).as_pointer()))
    word.align = size // 8
    word = builder.zext(word, long) if 4 * size < long.width else word
    return [builder.and_(builder.lshr(word, long(k * size)), long((1 << size) - 1)) for k in range(4)]


def _spread(builder, vector, address, kind):
    """Bring one bfloat16 or float32 to all lanes: a load of 32 bits and a mask are fewer steps than to widen it."""
    words = ir.VectorType(ir.IntType(_WORD), kind.count)
    unused = _WORD - vector.dtype.bitwidth
    # The value is the upper half of the word that ends with it.
    address = builder.gep(address, [ir.IntType(64)(-unused // vector.dtype.bitwidth)])
    value = builder.load(builder.bitcast(address, words.element.as_pointer()))
    value.align = vector.dtype.bitwidth // 8
    upper = ir.Constant(words, [(1 << _WORD) - (1 << unused)] * words.count)
    return builder.bitcast(builder.and_(_splat(builder, words, value), upper), kind)


def _pair(builder, address, kind):
    """Bring two bfloat16 that follow each other to all lanes: one load for both."""
    words = ir.VectorType(ir.IntType(_WORD), kind.count)
    both = builder.load(builder.bitcast(address, words.element.as_pointer()))
    both.align = _HALF // 8
    spread = _splat(builder, words, both)
    first = builder.shl(spread, ir.Constant(words, [_HALF] * words.count))
    second = builder.and_(spread, ir.Constant(words, [(1 << _WORD) - (1 << _HALF)] * words.count))
    return builder.bitcast(first, kind), builder.bitcast(second, kind)


def _looked_up(builder, byte):
    """Return the float32 of an int8 from a table of all: a load is cheaper than three steps in the vector unit."""
    table = ir.ArrayType(ir.FloatType(), 1 << _BYTE)
    name = "gossamer_floats_of_int8"
    if name not in builder.module.globals:
        constant = ir.GlobalVariable(builder.module, table, name)
        constant.linkage, constant.global_constant = "internal", True
        constant.initializer = ir.Constant(table, [float(number) for number in (*range(128), *range(-128, 0))])
    return builder.load(builder.gep(builder.module.globals[name], [ir.IntType(64)(0), byte]))
