"""Vector values for Numba that span several rows of an image: `num_rows` x `chunks` pieces of 64 bytes in registers.

As in `simd`, sizes are tuples: their lengths are part of a call's type. A piece is a value of its own for LLVM, which
would spill a single vector of 14 pieces, as it rounds the number of lanes up to a power of two.
"""

from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

from gossamer.kernels.simd import CHUNK_BYTES, Tile, _declare, _llvm_name, _mask, _part, _splat


class Rows(types.Type):
    """Numba type of `num_rows` x `chunks` pieces of 64 bytes of floats of one dtype."""

    def __init__(self, dtype, num_rows, chunks):
        self.dtype = dtype
        self.num_rows = num_rows
        self.chunks = chunks
        super().__init__(name=f"Rows({dtype}, {num_rows}, {chunks})")

    @property
    def key(self):
        """What makes two types equal."""
        return self.dtype, self.num_rows, self.chunks

    @property
    def lanes(self):
        """Floats in a piece."""
        return CHUNK_BYTES * 8 // self.dtype.bitwidth


@register_model(Rows)
class _RowsModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        element = ir.FloatType() if fe_type.dtype == types.float32 else ir.DoubleType()
        piece = ir.VectorType(element, fe_type.lanes)
        super().__init__(dmm, fe_type, ir.ArrayType(piece, fe_type.num_rows * fe_type.chunks))


def _pieces(builder, value):
    return [builder.extract_value(value, place) for place in range(value.type.count)]


def _join(builder, context, result, pieces):
    value = ir.Constant(context.get_value_type(result), ir.Undefined)
    for place, piece in enumerate(pieces):
        value = builder.insert_value(value, piece, place)
    return value


def _pointers(context, builder, array_type, array, place, stride, rows):
    """Addresses of the pieces: rows lie `stride` floats apart, the pieces of a row one after the other."""
    data = context.make_array(array_type)(context, builder, array).data
    vector = context.get_value_type(rows).element.as_pointer()
    start = builder.gep(data, [place])
    for row in range(rows.num_rows):
        of_row = builder.gep(start, [builder.mul(stride, ir.Constant(stride.type, row))])
        for chunk in range(rows.chunks):
            piece = builder.gep(of_row, [ir.Constant(stride.type, chunk * rows.lanes)])
            yield builder.bitcast(piece, vector)


def _loaded(context, builder, array_type, array, place, stride, rows):
    for address in _pointers(context, builder, array_type, array, place, stride, rows):
        value = builder.load(address)
        value.align = rows.dtype.bitwidth // 8
        yield value


@intrinsic
def peek(typingctx, array, place):
    """Return array[place], an integer widened to an index: no check for places counted from the end."""
    result = array.dtype if isinstance(array.dtype, types.Float) else types.intp

    def codegen(context, builder, signature, arguments):
        data = context.make_array(array)(context, builder, arguments[0]).data
        value = builder.load(builder.gep(data, [arguments[1]]))
        return context.cast(builder, value, array.dtype, result)

    return result(array, types.intp), codegen


@intrinsic
def load_between(typingctx, array, place, first, stop):
    """Return the tile of one piece that starts at array[place]; only lanes in [first, stop) are read, others are 0."""
    result = Tile(array.dtype, CHUNK_BYTES * 8 // array.dtype.bitwidth)

    def codegen(context, builder, signature, arguments):
        place, first, stop = arguments[1:]
        vector = context.get_value_type(result)
        data = context.make_array(array)(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(data, [place]), vector.as_pointer())
        mask = builder.and_(_mask(builder, result, stop), builder.not_(_mask(builder, result, first)))
        name = f"llvm.masked.load.{_llvm_name(vector)}.p0"
        function = _declare(builder, name, vector, [address.type, ir.IntType(32), mask.type, vector])
        align = ir.IntType(32)(array.dtype.bitwidth // 8)
        return builder.call(function, [address, align, mask, ir.Constant(vector, None)])

    return result(array, types.intp, types.intp, types.intp), codegen


@intrinsic
def load_piece(typingctx, array, place):
    """Return the tile of one piece that starts at array[place]."""
    result = Tile(array.dtype, CHUNK_BYTES * 8 // array.dtype.bitwidth)

    def codegen(context, builder, signature, arguments):
        data = context.make_array(array)(context, builder, arguments[0]).data
        pointer = context.get_value_type(result).as_pointer()
        value = builder.load(builder.bitcast(builder.gep(data, [arguments[1]]), pointer))
        value.align = array.dtype.bitwidth // 8
        return value

    return result(array, types.intp), codegen


@intrinsic
def store_piece(typingctx, array, place, tile):
    """Write a tile to array[place] and the floats after it."""

    def codegen(context, builder, signature, arguments):
        data = context.make_array(array)(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(data, [arguments[1]]), arguments[2].type.as_pointer())
        builder.store(arguments[2], address).align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.intp, tile), codegen


@intrinsic
def splat_rows(typingctx, scalar, num_rows, chunks):
    """Return rows with `scalar` in every lane."""
    result = Rows(scalar, len(num_rows), len(chunks))

    def codegen(context, builder, signature, arguments):
        array = context.get_value_type(result)
        return _join(builder, context, result, [_splat(builder, array.element, arguments[0])] * array.count)

    return result(scalar, num_rows, chunks), codegen


@intrinsic
def load_rows(typingctx, array, place, stride, num_rows, chunks):
    """Return rows that start at array[place], array[place + stride], ... of a vector."""
    result = Rows(array.dtype, len(num_rows), len(chunks))

    def codegen(context, builder, signature, arguments):
        return _join(builder, context, result, _loaded(context, builder, array, *arguments[:3], result))

    return result(array, types.intp, types.intp, num_rows, chunks), codegen


@intrinsic
def store_rows(typingctx, array, place, stride, rows):
    """Write rows to array[place], array[place + stride], ... and the floats after each."""

    def codegen(context, builder, signature, arguments):
        addresses = _pointers(context, builder, array, *arguments[:3], rows)
        for address, piece in zip(addresses, _pieces(builder, arguments[3]), strict=True):
            builder.store(piece, address).align = rows.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, rows), codegen


@intrinsic
def store_first_rows(typingctx, array, place, stride, rows, height, count):
    """Write the first `count` floats of the first `height` rows."""

    def codegen(context, builder, signature, arguments):
        height, count = arguments[4:]
        addresses = list(_pointers(context, builder, array, *arguments[:3], rows))
        pieces = _pieces(builder, arguments[3])
        masks = [
            _mask(
                builder, Tile(rows.dtype, rows.lanes), builder.sub(count, ir.Constant(count.type, chunk * rows.lanes))
            )
            for chunk in range(rows.chunks)
        ]
        align = ir.IntType(32)(rows.dtype.bitwidth // 8)
        name = f"llvm.masked.store.{_llvm_name(pieces[0].type)}.p0"
        kinds = [pieces[0].type, addresses[0].type, ir.IntType(32), masks[0].type]
        function = _declare(builder, name, ir.VoidType(), kinds)
        for row in range(rows.num_rows):
            with builder.if_then(builder.icmp_signed(">", height, ir.Constant(height.type, row))):
                for chunk, mask in enumerate(masks):
                    place = row * rows.chunks + chunk
                    builder.call(function, [pieces[place], addresses[place], align, mask])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, rows, types.intp, types.intp), codegen


@intrinsic
def add_scaled_rows(typingctx, scale, part, addend):
    """Return scale * part + addend, rounded once."""

    def codegen(context, builder, signature, arguments):
        vector = arguments[1].type.element
        function = _declare(builder, f"llvm.fma.{_llvm_name(vector)}", vector, [vector] * 3)
        factor = _splat(builder, vector, arguments[0])
        pairs = zip(_pieces(builder, arguments[1]), _pieces(builder, arguments[2]), strict=True)
        return _join(builder, context, addend, [builder.call(function, [factor, *pair]) for pair in pairs])

    return addend(scale, part, addend), codegen


@intrinsic
def multiply_rows(typingctx, left, right):
    """Return one tile, the sum over the pieces of left * right, always added in the same order."""
    result = Tile(left.dtype, left.lanes)

    def codegen(context, builder, signature, arguments):
        pairs = list(zip(*(_pieces(builder, part) for part in arguments), strict=True))
        vector = pairs[0][0].type
        function = _declare(builder, f"llvm.fma.{_llvm_name(vector)}", vector, [vector] * 3)
        # Two sums by turns: one would wait for each addition before the next.
        sums = [builder.fmul(*pair) for pair in pairs[:2]]
        for place, pair in enumerate(pairs[2:]):
            sums[place % 2] = builder.call(function, [*pair, sums[place % 2]])
        return sums[0] if len(sums) == 1 else builder.fadd(*sums)

    return result(left, right), codegen


@intrinsic
def total(typingctx, tile):
    """Return the sum over the lanes of a tile."""

    def codegen(context, builder, signature, arguments):
        value = arguments[0]
        while value.type.count > 1:
            half = value.type.count // 2
            value = builder.fadd(_part(builder, value, 0, half), _part(builder, value, half, half))
        return builder.extract_element(value, ir.IntType(32)(0))

    return tile.dtype(tile), codegen


@intrinsic
def add_totals(typingctx, array, place, first, second, third, fourth, keep):
    """Write the sums over the lanes of four tiles to array[place] and the three after it; add to them if `keep`."""

    def codegen(context, builder, signature, arguments):
        tiles, keep = arguments[2:6], arguments[6]
        totals = _four_totals(builder, list(tiles))
        data = context.make_array(array)(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(data, [arguments[1]]), totals.type.as_pointer())
        before = builder.load(address)
        before.align = first.dtype.bitwidth // 8
        result = builder.select(keep, builder.fadd(before, totals), totals)
        builder.store(result, address).align = first.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.intp, first, second, third, fourth, types.boolean), codegen


def _four_totals(builder, tiles):
    # Two tiles share a register as soon as half of each is summed: half the instructions of four separate sums.
    while tiles[0].type.count > 4:
        half = tiles[0].type.count // 2
        tiles = [builder.fadd(_part(builder, tile, 0, half), _part(builder, tile, half, half)) for tile in tiles]
    left, right = (_paired(builder, *tiles[place : place + 2]) for place in (0, 2))
    return _paired(builder, left, right)


def _paired(builder, left, right):
    """(l0 + l1, l2 + l3, r0 + r1, r2 + r3) of two vectors of four."""
    places = ir.VectorType(ir.IntType(32), 4)
    even = builder.shuffle_vector(left, right, ir.Constant(places, [0, 2, 4, 6]))
    odd = builder.shuffle_vector(left, right, ir.Constant(places, [1, 3, 5, 7]))
    return builder.fadd(even, odd)
