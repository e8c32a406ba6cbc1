from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from gossamer import topology
from gossamer.kernels import gpu_block_ops
from gossamer.kernels.gpu_block_ops import block_backward, block_grad_input, block_grad_values, block_linear
from gossamer.kernels.operands import Index

from .conftest import Call

EXACT = {torch.float32: 1e-5, torch.float64: 1e-12, torch.float16: 1e-3, torch.bfloat16: 8e-3}
MASKS = {
    "ragged": torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1]]).bool(),
    "an empty column": torch.tensor([[1, 0], [1, 0]]).bool(),
    "nothing": torch.zeros(2, 1).bool(),
}


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """A weight of blocks with what it is multiplied with, and the same weight dense, in float64."""

    blocks: Tensor
    dense: Tensor
    mask: Tensor
    bias: Tensor
    x: Tensor
    grad: Tensor
    index: Index

    def sampled(self) -> Tensor:
        """The gradient of the blocks in float64."""
        return _cut(self.grad.double() @ self.x.double().t(), self.blocks.shape[1:])[self.mask]


def _cut(dense: Tensor, block: torch.Size) -> Tensor:
    rows, columns = dense.shape[0] // block[0], dense.shape[1] // block[1]
    return dense.view(rows, block[0], columns, block[1]).transpose(1, 2)


def _make(
    mask: Tensor, block: tuple[int, int], batch: int, dtype: torch.dtype, index_dtype: torch.dtype = torch.int32
) -> Blocks:
    generator = torch.Generator().manual_seed(batch)
    places = topology.from_mask(mask)
    rows, columns = mask.shape[0] * block[0], mask.shape[1] * block[1]

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    blocks = normal(places.num_active, *block)
    cut = torch.zeros(*mask.shape, *block, dtype=torch.float64)
    cut[mask] = blocks.double()
    index = (places.row_pointers, places.column_indices, *topology.transpose(places))
    pointers, indices, *others = (part.to(index_dtype) for part in index)
    return Blocks(
        blocks=blocks,
        dense=cut.transpose(1, 2).reshape(rows, columns),
        mask=mask,
        bias=normal(rows),
        x=normal(columns, batch),
        grad=normal(rows, batch),
        index=(pointers, indices, others[0], others[1], others[2]),
    )


def _close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    return found.dtype == dtype and torch.allclose(found.double(), expected, rtol=EXACT[dtype], atol=30 * EXACT[dtype])


def _check(call: Call, problem: Blocks) -> None:
    dtype, index = problem.x.dtype, problem.index
    (forward,) = call(block_linear, problem.x, problem.blocks, problem.bias, *index)
    grad_input, grad_values = call(block_backward, problem.grad, problem.x, problem.blocks, *index)

    assert _close(forward, problem.dense @ problem.x.double() + problem.bias.double()[:, None], dtype)
    assert _close(grad_input, problem.dense.t() @ problem.grad.double(), dtype)
    assert _close(grad_values, problem.sampled(), dtype)


@pytest.mark.parametrize("block", [(16, 16), (32, 32), (64, 64), (16, 64), (32, 16)])
def test_every_size_of_block_equals_the_dense_product(call: Call, block: tuple[int, int]) -> None:
    _check(call, _make(MASKS["ragged"], block, 5, torch.float32))


@pytest.mark.parametrize("dtype", EXACT)
def test_blocks_of_every_dtype_equal_the_dense_product(call: Call, dtype: torch.dtype) -> None:
    _check(call, _make(MASKS["ragged"], (32, 16), 5, dtype))


@pytest.mark.parametrize("batch", [0, 1, 33, 130])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_every_batch_and_topology_equals_the_dense_product(call: Call, mask: Tensor, batch: int) -> None:
    _check(call, _make(mask, (16, 32), batch, torch.float32))


def test_block_indices_of_64_bits_give_the_same_bits(call: Call) -> None:
    narrow, wide = (_make(MASKS["ragged"], (16, 16), 5, torch.float32, kind) for kind in (torch.int32, torch.int64))

    assert wide.index[0].dtype == torch.int64
    for one, other in zip(
        call(block_backward, narrow.grad, narrow.x, narrow.blocks, *narrow.index),
        call(block_backward, wide.grad, wide.x, wide.blocks, *wide.index),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_block_operands_need_not_be_contiguous(call: Call) -> None:
    problem = _make(MASKS["ragged"], (16, 16), 7, torch.float32)
    grad, x = (part.t().contiguous().t() for part in (problem.grad, problem.x))
    blocks = problem.blocks.transpose(1, 2).contiguous().transpose(1, 2)

    (grad_input,), (grad_values,) = (
        call(block_grad_input, grad, blocks, *problem.index),
        call(block_grad_values, grad, x, *problem.index),
    )

    assert _close(grad_input, problem.dense.t() @ grad.double(), torch.float32)
    assert _close(grad_values, problem.sampled(), torch.float32)


def test_float32_is_exact_unless_torch_is_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for precision in ("highest", "high", "medium"):
        monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda precision=precision: precision)
        found[precision] = gpu_block_ops._precision()

    assert found == {"highest": "ieee", "high": "tf32", "medium": "tf32"}


_GOOD = _make(MASKS["ragged"], (16, 32), 4, torch.float32)


@pytest.mark.parametrize(
    ("x", "blocks", "bias", "text"),
    [
        (_GOOD.x, torch.zeros(5, 8, 8), None, r"blocks are 8 x 8; .* \(16, 32, 64\)"),
        (_GOOD.x, torch.zeros(5, 16, 128), None, r"blocks are 16 x 128"),
        (_GOOD.x, _GOOD.blocks[1:], None, r"blocks have shape \(4, 16, 32\), the topology takes \[5, rows, columns\]"),
        (_GOOD.x, _GOOD.blocks[0], None, r"blocks have shape \(16, 32\)"),
        (_GOOD.x[1:], _GOOD.blocks, None, r"of shape \(95, 4\), the weight takes torch.float32 of shape \[96, batch\]"),
        (_GOOD.x.double(), _GOOD.blocks, None, r"input is torch.float64 .* takes torch.float32"),
        (_GOOD.x, _GOOD.blocks, torch.zeros(1), r"bias is torch.float32 of shape \(1,\), .* of shape \(48,\)"),
        (_GOOD.x, _GOOD.blocks, torch.zeros(48).double(), r"bias is torch.float64"),
    ],
)
def test_block_operands_that_do_not_fit_are_refused(x: Tensor, blocks: Tensor, bias: Tensor | None, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        block_linear(x, blocks, bias, *_GOOD.index)


@pytest.mark.parametrize(
    ("grad", "x", "text"),
    [
        (_GOOD.grad[:, 1:], _GOOD.x, r"gradient is .* \(48, 3\) but the input .* \(96, 4\)"),
        (_GOOD.grad.double(), _GOOD.x, r"gradient is torch.float64"),
        (_GOOD.grad[1:], _GOOD.x, r"47 features do not divide into 3"),
        (_GOOD.grad, _GOOD.x[:24], r"blocks are 16 x 8"),
    ],
)
def test_block_gradients_that_do_not_fit_are_refused(grad: Tensor, x: Tensor, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        block_grad_values(grad, x, *_GOOD.index)
