"""The interpreter takes more than the compiler does: what it runs must also become machine code."""

from typing import Any

import pytest

_TILE = {"ENTRIES": 32, "SAMPLES": 128}
_SPARSE = {"multiply": {"permutation": None}, "sample": {}, "backward": {}}
_BLOCKS: dict[str, dict[str, Any]] = {
    "multiply_blocks": {"row_step": 1, "column_step": 64, "bias": None},
    "sample_blocks": {},
}


def _compile(name: str, number: str, index: str, constants: dict[str, Any]) -> Any:
    from gossamer.kernels import gpu

    from .compiler import compile_kernel

    return compile_kernel(getattr(gpu, name), number=number, index=index, constants=constants)


@pytest.mark.parametrize(("number", "index"), [("fp32", "i32"), ("bf16", "i64"), ("fp64", "i32")])
@pytest.mark.parametrize("name", _SPARSE)
def test_the_sparse_kernels_compile_and_load_16_bytes_at_once(name: str, number: str, index: str) -> None:
    code = _compile(name, number, index, _SPARSE[name] | _TILE).asm

    assert "cubin" in code
    assert any(width in code["ptx"] for width in ("ld.global.v4.b32", "ld.global.v2.b64"))


@pytest.mark.parametrize("name", ["multiply", "backward"])
def test_the_sparse_kernels_compile_for_one_sample(name: str) -> None:
    constants = {"ENTRIES": 16, "SAMPLES": 1, "batch": 1} | ({"bias": None} if name == "multiply" else {})

    assert "cubin" in _compile(name, "fp32", "i32", constants).asm


@pytest.mark.parametrize(("number", "precision"), [("fp32", "ieee"), ("fp16", "tf32"), ("fp64", "ieee")])
@pytest.mark.parametrize("name", _BLOCKS)
def test_the_block_kernels_compile_to_matrix_units_where_those_are_exact(
    name: str, number: str, precision: str
) -> None:
    sizes = {"ROWS": 64, "COLUMNS": 64, "SAMPLES": 32 if number == "fp64" else 64, "PRECISION": precision}

    code = _compile(name, number, "i32", _BLOCKS[name] | sizes).asm

    assert "cubin" in code
    assert ("mma." in code["ptx"]) == (number != "fp32")
