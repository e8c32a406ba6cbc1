"""One number from each of many places for Numba: the gather instruction where the processor has one."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from gossamer.kernels.simd import Tile, _declare, _llvm_name


@intrinsic
def gather(typingctx, vector, indices, place, lanes):
    """Return vector[indices[place + k]] in lane k, as many lanes as `lanes` is long."""
    result = Tile(vector.dtype, len(lanes))

    def codegen(context, builder, signature, arguments):
        base, places = (
            context.make_array(kind)(context, builder, value).data
            for kind, value in zip((vector, indices), arguments[:2], strict=True)
        )
        kind, integer = context.get_value_type(result), ir.IntType(indices.dtype.bitwidth)
        many = ir.VectorType(integer, len(lanes))
        pointer = builder.bitcast(builder.gep(places, [arguments[2]]), many.as_pointer())
        offsets = builder.load(pointer)
        offsets.align = indices.dtype.bitwidth // 8
        if integer.width < 32:
            offsets = builder.sext(offsets, ir.VectorType(ir.IntType(32), len(lanes)))
        return _gathered(builder, base, offsets, kind)

    return result(vector, indices, types.intp, lanes), codegen


def _gathered(builder, base, offsets, kind):
    """Call llvm.masked.gather with every lane on: LLVM takes the instruction, or loads one by one."""
    count = kind.count
    # llvmlite knows pointers into arrays alone: of a vector of offsets it takes the type to be that of one.
    pointers = builder.gep(base, [offsets], source_etype=kind.element)
    pointers.type = ir.VectorType(base.type, count)
    mask = ir.Constant(ir.VectorType(ir.IntType(1), count), [1] * count)
    name = f"llvm.masked.gather.{_llvm_name(kind)}.v{count}p0"
    function = _declare(builder, name, kind, [pointers.type, ir.IntType(32), mask.type, kind])
    align = 4 if isinstance(kind.element, ir.FloatType) else 8
    return builder.call(function, [pointers, ir.IntType(32)(align), mask, ir.Constant(kind, ir.Undefined)])
