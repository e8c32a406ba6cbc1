from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gossamer.kernels import fallback, ops, panels

from .problem import BATCHES, DTYPES, MASKS, OPS, RELATIVE, make, ragged


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
def test_every_batch_equals_the_dense_product(op: str, dtype: torch.dtype, batch: int) -> None:
    problem = make(ragged(), batch, dtype)

    problem.check(op, problem.run(op))


@pytest.mark.parametrize("batch", [0, 1, 40])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
def test_every_topology_equals_the_dense_product(op: str, dtype: torch.dtype, mask: Tensor, batch: int) -> None:
    problem = make(mask, batch, dtype)

    problem.check(op, problem.run(op))


@pytest.mark.parametrize("chunks", [1, 2, 4, 8])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
def test_every_width_of_tile_equals_the_dense_product(
    op: str, dtype: torch.dtype, chunks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(panels, "WIDEST", chunks)

    assert len(panels.tile_width(200, dtype.itemsize, panels.WIDEST)) == chunks
    for batch in (1, 40, 128, 200, 257):
        problem = make(ragged(), batch, dtype)
        problem.check(op, problem.run(op))


@pytest.mark.parametrize("batch", [0, 1, 200])
@pytest.mark.parametrize("op", OPS)
def test_indices_of_64_bits_give_the_same_bits(op: str, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panels, "WIDEST", 1)  # each further width would compile once more
    narrow, wide = (make(ragged(), batch, torch.float32, index_dtype=index) for index in (torch.int32, torch.int64))

    assert {part.dtype for part in wide.index} == {torch.int64}
    assert all(map(torch.equal, wide.run(op), narrow.run(op)))


@pytest.mark.parametrize("batch", [0, 1, 40, 200])
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_bias_is_a_bias_of_zeros(dtype: torch.dtype, batch: int) -> None:
    without = make(ragged(), batch, dtype, bias=False)
    zeros = replace(without, bias=without.x.new_zeros(23))
    without.check("sparse_linear", without.run("sparse_linear"))

    assert torch.equal(without.run("sparse_linear")[0], zeros.run("sparse_linear")[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("op", OPS)
def test_narrow_floats_are_computed_in_float32_and_rounded_once(op: str, dtype: torch.dtype) -> None:
    narrow = make(ragged(), 40, dtype)
    assert narrow.bias is not None
    values, x, grad = narrow.values.float(), narrow.x.float(), narrow.grad.float()
    wide = replace(narrow, values=values, x=x, grad=grad, bias=narrow.bias.float())

    for found, expected in zip(narrow.run(op), wide.run(op), strict=True):
        assert found.dtype == dtype
        assert torch.equal(found, expected.to(dtype))


def _transposed(tensor: Tensor) -> Tensor:
    return tensor.t().contiguous().t()


def _stepped(tensor: Tensor) -> Tensor:
    return tensor.repeat_interleave(3, dim=1)[:, ::3]


def _rows_stepped(tensor: Tensor) -> Tensor:
    return tensor.repeat_interleave(2, dim=0)[::2]


def _inside_another(tensor: Tensor) -> Tensor:
    return torch.nn.functional.pad(tensor, (1, 1, 1, 1), value=torch.nan)[1:-1, 1:-1]


def _expanded(tensor: Tensor) -> Tensor:
    return tensor[:, :1].expand_as(tensor)


def _negated_lazily(tensor: Tensor) -> Tensor:
    return torch.complex(torch.zeros_like(tensor), -tensor).conj().imag


@pytest.mark.parametrize("view", [_transposed, _stepped, _rows_stepped, _inside_another, _expanded, _negated_lazily])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
def test_no_operand_need_be_contiguous(op: str, dtype: torch.dtype, view: Callable[[Tensor], Tensor]) -> None:
    plain = make(ragged(), 40, dtype)
    assert plain.bias is not None
    values, bias = _stepped(plain.values[None])[0], _stepped(plain.bias[None])[0]
    viewed = replace(plain, x=view(plain.x), grad=view(plain.grad), values=values, bias=bias)

    assert not viewed.x.is_contiguous()
    viewed.check(op, viewed.run(op))


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("batch", [1, 40, 129, 257])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
def test_the_number_of_threads_changes_no_bit(
    op: str, dtype: torch.dtype, batch: int, threads: Callable[[int], None]
) -> None:
    problem = make(ragged(61, 47), batch, dtype)
    results = []
    for count in (1, 2, 2, 1):
        threads(count)
        results.append(problem.run(op))

    assert all(torch.equal(*pair) for other in results[1:] for pair in zip(results[0], other, strict=True))


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
@pytest.mark.parametrize("op", OPS)
def test_every_number_of_a_result_is_written(op: str, mask: Tensor) -> None:
    # Deterministic torch fills fresh memory with NaN.
    torch.use_deterministic_algorithms(True)
    try:
        results = [part for batch in (0, 1, 40, 257) for part in make(mask, batch, torch.float32).run(op)]
    finally:
        torch.use_deterministic_algorithms(False)

    assert all(bool(part.isfinite().all()) for part in results)


@pytest.mark.parametrize("batch", [1, 17, 40, 129])
def test_what_is_no_number_stays_with_its_sample_and_feature(batch: int) -> None:
    problem = make(ragged(), batch, torch.float32)
    broken = replace(problem, x=problem.x.index_fill(0, torch.tensor(3), torch.nan))
    (forward,), (grad_input, grad_values) = broken.run("sparse_linear"), broken.run("sparse_linear_backward")

    assert torch.equal(forward.isnan(), problem.mask[:, 3:4].expand(-1, batch))
    assert torch.equal(grad_values.isnan(), problem.mask.nonzero()[:, 1] == 3)
    assert bool(grad_input.isfinite().all())


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
def test_the_fallback_agrees_with_the_kernel(op: str, dtype: torch.dtype, mask: Tensor) -> None:
    functions: list[Callable[..., Tensor | tuple[Tensor, Tensor]]]
    functions = [ops.plain, ops._backward_any, ops._grad_input_any, ops._grad_values_any]

    for batch in (0, 1, 40):
        problem = make(mask, batch, dtype)
        found = functions[OPS.index(op)](*problem.arguments(op))
        parts = found if isinstance(found, tuple) else (found,)
        for part, other, scale in zip(parts, problem.run(op), problem.oracle(op, absolute=True), strict=True):
            assert part.dtype == other.dtype
            assert bool(((part - other).abs() <= RELATIVE[dtype] * scale).all())


@pytest.mark.parametrize("gathered", [1, 39, 40, 41, 400])
def test_the_fallback_gathers_in_parts_of_any_size(gathered: int, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = make(ragged(), 40, torch.float64)
    rows, columns = problem.mask.nonzero().unbind(1)
    monkeypatch.setattr(fallback, "_GATHERED_NUMBERS", gathered)

    product = fallback.multiply(columns, rows, problem.values, problem.grad, 17)
    sampled = fallback.sample(rows, columns, problem.grad, problem.x)

    problem.check("sparse_linear_backward", (product, sampled))
