"""The kernels for a real GPU, without one: Triton compiles them, its assembler included, for a named architecture."""

import inspect
from typing import Any

_ALIGNED = [["tt.divisibility", 16]]
_INDEX_NAMES = ("pointers", "indices", "permutation", "row_indices", "column_indices")


def compile_kernel(kernel: Any, *, number: str, index: str, constants: dict[str, Any], num_warps: int = 4) -> Any:
    """Compile for Hopper; `number` and `index` are Triton's names of the types, such as fp32 and i32."""
    from triton import compile as compile_source
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    wide = "fp64" if number == "fp64" else "fp32"
    signature, aligned = {}, {}
    for place, name in enumerate(inspect.signature(kernel.fn).parameters):
        signature[name] = _type(name, number, index, wide, constants)
        if signature[name] != "constexpr" and name not in ("num_rows", "num_columns"):
            aligned[place,] = _ALIGNED
    options = {"num_warps": num_warps, "enable_fp_fusion": True}
    return compile_source(
        ASTSource(kernel, signature, constants, aligned), target=GPUTarget("cuda", 90, 32), options=options
    )


def _type(name: str, number: str, index: str, wide: str, constants: dict[str, Any]) -> str:
    if name in constants:
        return "constexpr"
    if name in _INDEX_NAMES:
        return f"*{index}"
    if name == "partial":
        return f"*{wide}"
    return f"*{number}" if name in ("values", "blocks", "bias", "x", "grad", "grad_x", "result") else "i32"
