"""Vector values for Numba: one `Tile` holds a stretch of the batch in registers.

A width is a tuple: n integers stand for n chunks of 64 bytes (16 float32 or 8 float64), n times None for n quarters of
a chunk. So the type of a call, and not a run-time value, decides how many registers a tile takes. LLVM turns tiles into
AVX2, AVX-512 or NEON; nothing here names an instruction set.
"""

from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

CHUNK_BYTES = 64
QUARTER_BYTES = CHUNK_BYTES // 4


def width_bytes(width: tuple[int, ...] | tuple[None, ...]) -> int:
    """Return the bytes of a tile of a width."""
    return sum(QUARTER_BYTES if part is None else CHUNK_BYTES for part in width)


class Tile(types.Type):
    """Numba type of `lanes` floats of one dtype, an LLVM vector."""

    def __init__(self, dtype, lanes):
        self.dtype = dtype
        self.lanes = lanes
        super().__init__(name=f"Tile({dtype}, {lanes})")

    @property
    def key(self):
        """What makes two tile types equal."""
        return self.dtype, self.lanes


@register_model(Tile)
class _TileModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        element = ir.FloatType() if fe_type.dtype == types.float32 else ir.DoubleType()
        super().__init__(dmm, fe_type, ir.VectorType(element, fe_type.lanes))


def _tile(dtype, width):
    part = QUARTER_BYTES if width.dtype == types.none else CHUNK_BYTES
    return Tile(dtype, len(width) * part * 8 // dtype.bitwidth)


def _element_pointer(context, builder, array_type, array, row, column):
    """Address of array[row, column]; rows lie one after the other without gaps."""
    struct = context.make_array(array_type)(context, builder, array)
    columns = builder.extract_value(struct.shape, 1)
    return builder.gep(struct.data, [builder.add(builder.mul(row, columns), column)])


def _mask(builder, tile_type, count):
    """<lanes x i1>, true in the first `count` lanes."""
    lanes = tile_type.lanes
    vector = ir.VectorType(ir.IntType(32), lanes)
    iota = ir.Constant(vector, list(range(lanes)))
    count = builder.trunc(count, ir.IntType(32))
    return builder.icmp_signed("<", iota, _splat(builder, vector, count))


def _splat(builder, vector, scalar):
    single = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.IntType(32)(0))
    return builder.shuffle_vector(single, ir.Constant(vector, ir.Undefined), _zeros(vector.count))


def _zeros(count):
    return ir.Constant(ir.VectorType(ir.IntType(32), count), [0] * count)


def _llvm_name(vector):
    return f"v{vector.count}f{32 if isinstance(vector.element, ir.FloatType) else 64}"


def _declare(builder, name, result, arguments):
    module = builder.module
    if name in module.globals:
        return module.globals[name]
    return ir.Function(module, ir.FunctionType(result, arguments), name=name)


@intrinsic
def splat(typingctx, scalar, width):
    """Return a tile with `scalar` in every lane."""
    result = _tile(scalar, width)

    def codegen(context, builder, signature, arguments):
        return _splat(builder, context.get_value_type(result), arguments[0])

    return result(scalar, width), codegen


@intrinsic
def load(typingctx, array, row, column, width):
    """Return the tile that starts at array[row, column]."""
    result = _tile(array.dtype, width)

    def codegen(context, builder, signature, arguments):
        vector = context.get_value_type(result)
        pointer = _element_pointer(context, builder, array, *arguments[:3])
        value = builder.load(builder.bitcast(pointer, vector.as_pointer()))
        value.align = array.dtype.bitwidth // 8
        return value

    return result(array, types.intp, types.intp, width), codegen


@intrinsic
def load_first(typingctx, array, row, column, width, count):
    """Return the tile that starts at array[row, column]; lanes from `count` on are zero and are not read."""
    result = _tile(array.dtype, width)

    def codegen(context, builder, signature, arguments):
        vector = context.get_value_type(result)
        pointer = builder.bitcast(_element_pointer(context, builder, array, *arguments[:3]), vector.as_pointer())
        mask = _mask(builder, result, arguments[4])
        function = _declare(
            builder,
            f"llvm.masked.load.{_llvm_name(vector)}.p0",
            vector,
            [pointer.type, ir.IntType(32), mask.type, vector],
        )
        align = ir.IntType(32)(array.dtype.bitwidth // 8)
        return builder.call(function, [pointer, align, mask, ir.Constant(vector, None)])

    return result(array, types.intp, types.intp, width, types.intp), codegen


@intrinsic
def store(typingctx, array, row, column, tile):
    """Write a tile to array[row, column] and the columns after it."""

    def codegen(context, builder, signature, arguments):
        pointer = _element_pointer(context, builder, array, *arguments[:3])
        vector = arguments[3].type
        done = builder.store(arguments[3], builder.bitcast(pointer, vector.as_pointer()))
        done.align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, tile), codegen


@intrinsic
def store_first(typingctx, array, row, column, tile, count):
    """Write the first `count` lanes of a tile to array[row, column] and the columns after it."""

    def codegen(context, builder, signature, arguments):
        vector = arguments[3].type
        pointer = builder.bitcast(_element_pointer(context, builder, array, *arguments[:3]), vector.as_pointer())
        mask = _mask(builder, tile, arguments[4])
        function = _declare(
            builder,
            f"llvm.masked.store.{_llvm_name(vector)}.p0",
            ir.VoidType(),
            [vector, pointer.type, ir.IntType(32), mask.type],
        )
        builder.call(function, [arguments[3], pointer, ir.IntType(32)(array.dtype.bitwidth // 8), mask])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, tile, types.intp), codegen


@intrinsic
def multiply_add(typingctx, left, right, addend):
    """Return left * right + addend, rounded once."""

    def codegen(context, builder, signature, arguments):
        vector = arguments[0].type
        function = _declare(builder, f"llvm.fma.{_llvm_name(vector)}", vector, [vector] * 3)
        return builder.call(function, arguments)

    return left(left, right, addend), codegen


@intrinsic
def add(typingctx, left, right):
    """Return left + right."""

    def codegen(context, builder, signature, arguments):
        return builder.fadd(*arguments)

    return left(left, right), codegen


@intrinsic
def zero_where_negative(typingctx, tile):
    """Return a ReLU of each lane; what is no number stays so."""

    def codegen(context, builder, signature, arguments):
        zeros = ir.Constant(arguments[0].type, None)
        return builder.select(builder.fcmp_ordered("<", arguments[0], zeros), zeros, arguments[0])

    return tile(tile), codegen


@intrinsic
def zero_where_not_positive(typingctx, tile, where):
    """Return the tile with zeros in the lanes in which `where` is zero or less: the gradient of a ReLU."""

    def codegen(context, builder, signature, arguments):
        zeros = ir.Constant(arguments[0].type, None)
        return builder.select(builder.fcmp_ordered("<=", arguments[1], zeros), zeros, arguments[0])

    return tile(tile, where), codegen


@intrinsic
def chains(typingctx, width):
    """Return how many sums of this width take turns: as many as keep the multipliers busy, 4, 2 or 1."""
    size = len(width) * (QUARTER_BYTES if width.dtype == types.none else CHUNK_BYTES)
    count = 4 if size <= CHUNK_BYTES else 2 if size == 2 * CHUNK_BYTES else 1

    def codegen(context, builder, signature, arguments):
        return ir.IntType(64)(count)

    return types.int64(width), codegen


@intrinsic
def dot(typingctx, left, right):
    """Return the sum over all lanes of left * right, always added in the same order."""

    def codegen(context, builder, signature, arguments):
        # Chunk by chunk into one register, then halves onto halves: fewer instructions than product and sum.
        lanes = min(left.lanes, CHUNK_BYTES * 8 // left.dtype.bitwidth)
        chunks = [[_part(builder, tile, start, lanes) for tile in arguments] for start in range(0, left.lanes, lanes)]
        vector = chunks[0][0].type
        function = _declare(builder, f"llvm.fma.{_llvm_name(vector)}", vector, [vector] * 3)
        total = builder.fmul(*chunks[0])
        for pair in chunks[1:]:
            total = builder.call(function, [*pair, total])
        while total.type.count > 1:
            half = total.type.count // 2
            total = builder.fadd(_part(builder, total, 0, half), _part(builder, total, half, half))
        return builder.extract_element(total, ir.IntType(32)(0))

    return left.dtype(left, right), codegen


def _part(builder, value, start, count):
    places = ir.Constant(ir.VectorType(ir.IntType(32), count), list(range(start, start + count)))
    return builder.shuffle_vector(value, ir.Constant(value.type, ir.Undefined), places)


@intrinsic
def pointer(typingctx, address):
    """Return an address as a pointer, for `numba.carray`."""

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), codegen


@intrinsic
def claim(typingctx, counters, place):
    """Add one to counters[place], before any other thread can, and return what it was."""

    def codegen(context, builder, signature, arguments):
        counter = builder.gep(arguments[0], [arguments[1]])
        return builder.atomic_rmw("add", counter, ir.IntType(64)(1), "monotonic")

    return types.int64(types.CPointer(types.int64), types.int64), codegen


@intrinsic
def pick(typingctx, array, place):
    """Return array[place] of a vector; Numba's own indexing looks for negative places each time."""

    def codegen(context, builder, signature, arguments):
        struct = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.load(builder.gep(struct.data, [arguments[1]]))

    return array.dtype(array, types.int64), codegen


@intrinsic
def put(typingctx, array, place, value):
    """Write array[place] = value of a vector, as `pick` reads it."""

    def codegen(context, builder, signature, arguments):
        struct = context.make_array(signature.args[0])(context, builder, arguments[0])
        builder.store(arguments[2], builder.gep(struct.data, [arguments[1]]))
        return context.get_dummy_value()

    return types.void(array, types.int64, array.dtype), codegen
