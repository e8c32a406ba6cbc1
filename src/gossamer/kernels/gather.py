"""One number from each of many places for Numba: the gather instruction where the processor has one."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from gossamer.kernels.simd import Tile, _declare, _llvm_name, _mask


@intrinsic
def gather(typingctx, vector, indices, place, lanes):
    """Return vector[indices[place + k]] in lane k, as many lanes as `lanes` is long."""
    result = Tile(vector.dtype, len(lanes))

    def codegen(context, builder, signature, arguments):
        base, places = _data(context, builder, (vector, indices), arguments)
        kind = context.get_value_type(result)
        offsets = builder.load(_offsets_at(builder, indices, places, arguments[2], kind.count))
        offsets.align = indices.dtype.bitwidth // 8
        mask = ir.Constant(ir.VectorType(ir.IntType(1), kind.count), [1] * kind.count)
        return _gathered(builder, base, _widened(builder, indices, offsets), kind, mask)

    return result(vector, indices, types.intp, lanes), codegen


@intrinsic
def gather_first(typingctx, vector, indices, place, lanes, count):
    """Return the same in the first `count` lanes and zero in the others, whose places are not read."""
    result = Tile(vector.dtype, len(lanes))

    def codegen(context, builder, signature, arguments):
        base, places = _data(context, builder, (vector, indices), arguments)
        kind = context.get_value_type(result)
        pointer = _offsets_at(builder, indices, places, arguments[2], kind.count)
        many = ir.VectorType(ir.IntType(indices.dtype.bitwidth), kind.count)
        mask = _mask(builder, result, arguments[4])
        name = f"llvm.masked.load.v{kind.count}i{many.element.width}.p0"
        function = _declare(builder, name, many, [pointer.type, ir.IntType(32), mask.type, many])
        align = ir.IntType(32)(indices.dtype.bitwidth // 8)
        offsets = builder.call(function, [pointer, align, mask, ir.Constant(many, None)])
        return _gathered(builder, base, _widened(builder, indices, offsets), kind, mask)

    return result(vector, indices, types.intp, lanes, types.intp), codegen


def _data(context, builder, kinds, values):
    return [context.make_array(kind)(context, builder, value).data for kind, value in zip(kinds, values, strict=False)]


def _offsets_at(builder, indices, places, place, count):
    many = ir.VectorType(ir.IntType(indices.dtype.bitwidth), count)
    return builder.bitcast(builder.gep(places, [place]), many.as_pointer())


def _widened(builder, indices, offsets):
    if indices.dtype.bitwidth >= 32:
        return offsets
    extend = builder.sext if indices.dtype.signed else builder.zext
    return extend(offsets, ir.VectorType(ir.IntType(32), offsets.type.count))


def _gathered(builder, base, offsets, kind, mask):
    """Call llvm.masked.gather: LLVM takes the instruction, or loads one by one."""
    # llvmlite knows pointers into arrays alone: of a vector of offsets it takes the type to be that of one.
    pointers = builder.gep(base, [offsets], source_etype=kind.element)
    pointers.type = ir.VectorType(base.type, kind.count)
    name = f"llvm.masked.gather.{_llvm_name(kind)}.v{kind.count}p0"
    function = _declare(builder, name, kind, [pointers.type, ir.IntType(32), mask.type, kind])
    align = 4 if isinstance(kind.element, ir.FloatType) else 8
    return builder.call(function, [pointers, ir.IntType(32)(align), mask, ir.Constant(kind, None)])
