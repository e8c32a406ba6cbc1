"""Several tiles at once for Numba: the running sums of some outputs, and vectors of fewer lanes than a chunk.

Outputs and lanes are counted by tuples, as widths are in `simd`: the type of a call says how many there are, so that
LLVM sees no loop and keeps each sum in registers of its own.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from gossamer.kernels.simd import Tile, _declare, _element_pointer, _llvm_name, _mask, _splat, _tile


def _load(builder, pointer, vector, itemsize):
    value = builder.load(builder.bitcast(pointer, vector.as_pointer()))
    value.align = itemsize
    return value


def _data(context, builder, array_type, array):
    """Address of the first element of a vector."""
    return context.make_array(array_type)(context, builder, array).data


def _multiply_add(builder, left, right, addend):
    vector = addend.type
    return builder.call(
        _declare(builder, f"llvm.fma.{_llvm_name(vector)}", vector, [vector] * 3), [left, right, addend]
    )


@intrinsic
def splat_rows(typingctx, vector, place, rows, width):
    """Return tiles, one for each of `rows`: vector[place + k] in every lane of the k-th."""
    result = types.UniTuple(_tile(vector.dtype, width), len(rows))

    def codegen(context, builder, signature, arguments):
        data = _data(context, builder, vector, arguments[0])
        tiles = ir.Constant(context.get_value_type(result), ir.Undefined)
        for k in range(len(rows)):
            scalar = builder.load(builder.gep(data, [builder.add(arguments[1], ir.IntType(64)(k))]))
            tiles = builder.insert_value(tiles, _splat(builder, tiles.type.element, scalar), k)
        return tiles

    return result(vector, types.intp, rows, width), codegen


@intrinsic
def add_products(typingctx, vector, place, tile, totals):
    """Return totals[k] + vector[place + k] * tile: one loaded tile for all rows."""

    def codegen(context, builder, signature, arguments):
        data, sums = _data(context, builder, vector, arguments[0]), arguments[3]
        for k in range(totals.count):
            scalar = builder.load(builder.gep(data, [builder.add(arguments[1], ir.IntType(64)(k))]))
            factor = _splat(builder, sums.type.element, scalar)
            total = _multiply_add(builder, factor, arguments[2], builder.extract_value(sums, k))
            sums = builder.insert_value(sums, total, k)
        return sums

    return totals(vector, types.intp, tile, totals), codegen


@intrinsic
def add_rows(typingctx, vector, indices, place, array, column, totals):
    """Return totals[k] + vector[place + k] * the tile at array[indices[place + k], column]."""

    def codegen(context, builder, signature, arguments):
        def loaded(address, kind):
            return _load(builder, address, kind, array.dtype.bitwidth // 8)

        return _add_rows(context, builder, (vector, indices, array), arguments, loaded)

    return totals(vector, indices, types.intp, array, types.intp, totals), codegen


@intrinsic
def add_first_of_rows(typingctx, vector, indices, place, array, column, totals, count):
    """`add_rows` with the first `count` lanes alone; the others are not read."""

    def codegen(context, builder, signature, arguments):
        mask, align = _mask(builder, totals.dtype, arguments[6]), ir.IntType(32)(array.dtype.bitwidth // 8)

        def loaded(address, kind):
            address = builder.bitcast(address, kind.as_pointer())
            name, types_ = f"llvm.masked.load.{_llvm_name(kind)}.p0", [address.type, align.type, mask.type, kind]
            return builder.call(_declare(builder, name, kind, types_), [address, align, mask, ir.Constant(kind, None)])

        return _add_rows(context, builder, (vector, indices, array), arguments, loaded)

    return totals(vector, indices, types.intp, array, types.intp, totals, types.intp), codegen


def _add_rows(context, builder, kinds, arguments, loaded):
    """The sums of `add_rows`, whose tiles `loaded` takes from an address."""
    vector, indices, array = kinds
    values, places = _data(context, builder, vector, arguments[0]), _data(context, builder, indices, arguments[1])
    sums = arguments[5]
    for k in range(sums.type.count):
        slot = builder.add(arguments[2], ir.IntType(64)(k))
        row = builder.sext(builder.load(builder.gep(places, [slot])), ir.IntType(64))
        tile = loaded(_element_pointer(context, builder, array, arguments[3], row, arguments[4]), sums.type.element)
        factor = _splat(builder, sums.type.element, builder.load(builder.gep(values, [slot])))
        total = _multiply_add(builder, factor, tile, builder.extract_value(sums, k))
        sums = builder.insert_value(sums, total, k)
    return sums


@intrinsic
def store_rows(typingctx, array, row, column, totals):
    """Write totals[k] to array[row + k, column] and the columns after it."""

    def codegen(context, builder, signature, arguments):
        for k, address in _row_pointers(context, builder, array, arguments):
            done = builder.store(builder.extract_value(arguments[3], k), address)
            done.align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, totals), codegen


@intrinsic
def store_first_of_rows(typingctx, array, row, column, totals, count):
    """Write the first `count` lanes of totals[k] to array[row + k, column] and the columns after it."""

    def codegen(context, builder, signature, arguments):
        mask, vector = _mask(builder, totals.dtype, arguments[4]), arguments[3].type.element
        align = ir.IntType(32)(array.dtype.bitwidth // 8)
        for k, address in _row_pointers(context, builder, array, arguments):
            name = f"llvm.masked.store.{_llvm_name(vector)}.p0"
            masked = _declare(builder, name, ir.VoidType(), [vector, address.type, align.type, mask.type])
            builder.call(masked, [builder.extract_value(arguments[3], k), address, align, mask])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, totals, types.intp), codegen


def _row_pointers(context, builder, array, arguments):
    """Yield k and where the k-th of the tiles `arguments[3]` belongs."""
    totals = arguments[3].type
    for k in range(totals.count):
        row = builder.add(arguments[1], ir.IntType(64)(k))
        address = _element_pointer(context, builder, array, arguments[0], row, arguments[2])
        yield k, builder.bitcast(address, totals.element.as_pointer())


@intrinsic
def splat_lanes(typingctx, scalar, lanes):
    """Return a vector with `scalar` in as many lanes as `lanes` is long."""
    result = Tile(scalar, len(lanes))

    def codegen(context, builder, signature, arguments):
        return _splat(builder, context.get_value_type(result), arguments[0])

    return result(scalar, lanes), codegen


@intrinsic
def load_lanes(typingctx, vector, place, lanes):
    """Return vector[place] and what stands behind it, in as many lanes as `lanes` is long."""
    result = Tile(vector.dtype, len(lanes))

    def codegen(context, builder, signature, arguments):
        pointer = builder.gep(_data(context, builder, vector, arguments[0]), [arguments[1]])
        return _load(builder, pointer, context.get_value_type(result), vector.dtype.bitwidth // 8)

    return result(vector, types.intp, lanes), codegen


@intrinsic
def add_tiles(typingctx, left, right):
    """Return left + right."""

    def codegen(context, builder, signature, arguments):
        return builder.fadd(*arguments)

    return left(left, right), codegen


@intrinsic
def store_lanes(typingctx, vector, place, tile):
    """Write a tile to vector[place] and what stands behind it."""

    def codegen(context, builder, signature, arguments):
        pointer = builder.gep(_data(context, builder, vector, arguments[0]), [arguments[1]])
        done = builder.store(arguments[2], builder.bitcast(pointer, arguments[2].type.as_pointer()))
        done.align = vector.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(vector, types.intp, tile), codegen
