from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gossamer.kernels import gpu_ops
from gossamer.kernels.gpu_ops import Tiles, tile_sizes

from ..problem import MASKS, OPS, RELATIVE, Problem, make, ragged
from .conftest import Call

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sparse_linear": gpu_ops.sparse_linear,
    "sparse_linear_backward": gpu_ops.backward,
    "sparse_linear_grad_input": gpu_ops.grad_input,
    "sparse_linear_grad_values": gpu_ops.grad_values,
}


def _run(call: Call, problem: Problem, op: str) -> tuple[Tensor, ...]:
    return call(FUNCTIONS[op], *problem.arguments(op))


def _check(call: Call, problem: Problem, op: str) -> None:
    """Compare with the oracle: sums as exact as in float32 at least, rounded once."""
    dtype = problem.x.dtype
    results, expected, scales = _run(call, problem, op), problem.oracle(op), problem.oracle(op, absolute=True)
    for found, exact, scale in zip(results, expected, scales, strict=True):
        rounding = 0.0 if dtype in RELATIVE else 0.51 * torch.finfo(dtype).eps * exact.abs() + 1e-7
        assert (found.dtype, found.shape) == (dtype, exact.shape)
        assert bool(((found.double() - exact).abs() <= RELATIVE.get(dtype, 1e-5) * scale + rounding).all())


@pytest.mark.parametrize("batch", [0, 1, 17, 130])
@pytest.mark.parametrize("op", OPS)
def test_every_batch_equals_the_dense_product(call: Call, op: str, batch: int) -> None:
    _check(call, make(ragged(11, 7), batch, torch.float32), op)


@pytest.mark.parametrize("batch", [1, 40])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
def test_every_dtype_equals_the_dense_product(call: Call, op: str, dtype: torch.dtype, batch: int) -> None:
    _check(call, make(ragged(11, 7), batch, dtype), op)


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
@pytest.mark.parametrize("op", OPS)
def test_every_topology_equals_the_dense_product(call: Call, op: str, mask: Tensor) -> None:
    _check(call, make(mask, 3, torch.float32), op)
    _check(call, make(mask, 0, torch.float32), op)


@pytest.mark.parametrize("shape", [(2, 140), (140, 2)])
@pytest.mark.parametrize("op", OPS)
def test_rows_and_columns_may_be_longer_than_what_is_loaded_at_once(
    call: Call, op: str, shape: tuple[int, int]
) -> None:
    mask = torch.ones(shape).bool()
    mask.view(-1)[7:140:9] = False

    assert tile_sizes(min(shape), int(mask.sum()), 3, 4).entries == 128
    _check(call, make(mask, 3, torch.float32), op)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("op", OPS)
def test_the_batch_may_be_longer_than_what_is_summed_at_once(call: Call, op: str, dtype: torch.dtype) -> None:
    problem = make(torch.tensor([[1, 1, 0], [0, 0, 0]]).bool(), 531, dtype)

    assert len(list(gpu_ops._stretches(531, tile_sizes(3, 2, 531, 4).samples))) == 3
    _check(call, problem, op)


@pytest.mark.parametrize("op", OPS)
def test_indices_of_64_bits_give_the_same_bits(call: Call, op: str) -> None:
    narrow, wide = (make(ragged(11, 7), 5, torch.float32, index_dtype=index) for index in (torch.int32, torch.int64))

    assert {part.dtype for part in wide.index} == {torch.int64}
    assert all(map(torch.equal, _run(call, wide, op), _run(call, narrow, op)))


@pytest.mark.parametrize("op", OPS)
def test_the_same_operands_give_the_same_bits(call: Call, op: str) -> None:
    problem = make(ragged(11, 7), 130, torch.float32)

    assert all(map(torch.equal, _run(call, problem, op), _run(call, problem, op)))


def test_no_bias_is_a_bias_of_zeros(call: Call) -> None:
    without = make(ragged(11, 7), 5, torch.float32, bias=False)
    zeros = replace(without, bias=torch.zeros(11))

    _check(call, without, "sparse_linear")
    assert torch.equal(*_run(call, without, "sparse_linear"), *_run(call, zeros, "sparse_linear"))


def _transposed(tensor: Tensor) -> Tensor:
    return tensor.t().contiguous().t()


def _inside_another(tensor: Tensor) -> Tensor:
    return torch.nn.functional.pad(tensor, (1, 1, 1, 1), value=torch.nan)[1:-1, 1:-1]


def _expanded(tensor: Tensor) -> Tensor:
    return tensor[:, :1].expand_as(tensor)


@pytest.mark.parametrize("view", [_transposed, _inside_another, _expanded])
@pytest.mark.parametrize("op", OPS)
def test_no_operand_need_be_contiguous(call: Call, op: str, view: Callable[[Tensor], Tensor]) -> None:
    plain = make(ragged(11, 7), 9, torch.float32)
    assert plain.bias is not None
    values, bias = plain.values.repeat_interleave(2)[::2], plain.bias.repeat_interleave(2)[::2]
    viewed = replace(plain, x=view(plain.x), grad=view(plain.grad), values=values, bias=bias)

    assert not viewed.x.is_contiguous()
    _check(call, viewed, op)


@pytest.mark.parametrize("batch", [1, 17])
def test_what_is_no_number_stays_with_its_sample_and_feature(call: Call, batch: int) -> None:
    problem = make(ragged(), batch, torch.float32)
    broken = replace(problem, x=problem.x.index_fill(0, torch.tensor(3), torch.nan))
    (forward,), (grad_input, grad_values) = (_run(call, broken, op) for op in OPS[:2])

    assert torch.equal(forward.isnan(), problem.mask[:, 3:4].expand(-1, batch))
    assert torch.equal(grad_values.isnan(), problem.mask.nonzero()[:, 1] == 3)
    assert bool(grad_input.isfinite().all())


@pytest.mark.parametrize("itemsize", [2, 4, 8])
@pytest.mark.parametrize("batch", [0, 1, 5, 31, 128, 2048, 10**6])
@pytest.mark.parametrize("rows", [0, 1, 10, 4096])
def test_tiles_keep_to_what_a_program_can_hold(rows: int, batch: int, itemsize: int) -> None:
    for in_a_row in (0, 1, 50, 4000):
        tiles = tile_sizes(rows, rows * in_a_row, batch, itemsize)
        sums_a_thread = tiles.entries * tiles.samples / (32 * tiles.num_warps)

        assert all(number & (number - 1) == 0 for number in tiles)
        assert tiles.entries >= 16
        assert sums_a_thread * max(4, itemsize) <= 32 * 4
        assert tiles.samples < 2 * max(1, batch)


def test_a_layer_of_few_outputs_gets_narrow_tiles() -> None:
    assert tile_sizes(10, 500, 2048, 4) == Tiles(entries=64, samples=32, num_warps=2)
    assert tile_sizes(4096, 4096 * 50, 2048, 2) == Tiles(entries=32, samples=128, num_warps=4)
