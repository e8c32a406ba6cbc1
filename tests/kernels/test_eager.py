from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gossamer.kernels import cpu, eager, ops

from .problem import BATCHES, DTYPES, MASKS, RELATIVE, Problem, make, ragged


def _leaves(problem: Problem) -> list[Tensor]:
    parts = [problem.x.t(), problem.values, problem.bias]
    return [part.detach().clone().requires_grad_() for part in parts if part is not None]


def _linear(problem: Problem, inputs: Tensor, values: Tensor, bias: Tensor | None = None) -> Tensor:
    return eager.linear(inputs, values, bias, problem.index)


def _registered(problem: Problem, inputs: Tensor, values: Tensor, bias: Tensor | None = None) -> Tensor:
    return ops.sparse_linear(inputs.t().contiguous(), values, bias, problem.index).t()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_results_and_gradients_have_the_bits_of_the_registered_operator(
    dtype: torch.dtype, batch: int, bias: bool
) -> None:
    problem = make(ragged(), batch, dtype, bias=bias)
    ours, theirs = _leaves(problem), _leaves(problem)

    found, expected = _linear(problem, *ours), _registered(problem, *theirs)
    grads = [
        torch.autograd.grad(result, leaves, problem.grad.t()) for result, leaves in ((found, ours), (expected, theirs))
    ]

    assert torch.equal(found, expected)
    assert found.stride() == (1, batch)
    assert all(map(torch.equal, *(parts[:2] for parts in grads)))
    # The eager road sums the gradient of the bias in the kernel, the registered one by torch.
    for sums, reference in zip(*(parts[2:] for parts in grads), strict=True):
        torch.testing.assert_close(sums, reference, rtol=0, atol=RELATIVE[dtype] * float(problem.grad.abs().sum()))


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_every_topology_has_right_gradients_to_second_order(mask: Tensor) -> None:
    problem = make(mask[:6, :5], 3, torch.float64)
    leaves = _leaves(problem)

    assert torch.autograd.gradcheck(lambda *parts: _linear(problem, *parts), leaves)
    assert torch.autograd.gradgradcheck(lambda *parts: _linear(problem, *parts), leaves)


@pytest.mark.parametrize("needed", range(1, 8))
def test_only_the_gradients_that_are_needed_are_made(needed: int) -> None:
    problem = make(ragged(), 40, torch.float64)
    leaves = _leaves(problem)
    full = torch.autograd.grad(_linear(problem, *leaves).square().sum(), leaves)
    for place, leaf in enumerate(leaves):
        leaf.requires_grad_(bool(needed >> place & 1))

    _linear(problem, *leaves).square().sum().backward()

    for place, leaf in enumerate(leaves):
        if needed >> place & 1:
            torch.testing.assert_close(leaf.grad, full[place], rtol=1e-12, atol=1e-12)
        else:
            assert leaf.grad is None


@pytest.mark.parametrize("layout", ["rows", "columns", "every second", "expanded", "backwards"])
def test_any_strides_give_the_same_bits(layout: str) -> None:
    problem = make(ragged(), 40, torch.float32)
    wide = torch.randn(80, 34, generator=torch.Generator().manual_seed(3))
    inputs = {
        "rows": wide[:40, :17].contiguous(),
        "columns": wide[:40, :17].t().contiguous().t(),
        "every second": wide[::2, ::2],
        "expanded": wide[:1, :17].expand(40, 17),
        "backwards": wide[:40, :17].flip(0),
    }[layout]
    expected = ops.sparse_linear(inputs.t().contiguous(), problem.values, problem.bias, problem.index).t()

    for needs in (False, True):
        leaf = inputs.detach().requires_grad_(needs)
        assert torch.equal(_linear(problem, leaf, problem.values, problem.bias), expected)


def test_a_gradient_of_any_strides_is_taken() -> None:
    problem = make(ragged(), 40, torch.float64)
    leaves = _leaves(problem)
    (summed, *_), (weighted, *_) = (
        torch.autograd.grad(result, leaves)
        for result in (
            _linear(problem, *leaves).sum(),
            (_linear(problem, *leaves) * torch.ones(40, 23, dtype=torch.float64)).sum(),
        )
    )

    torch.testing.assert_close(summed, weighted)


def test_the_result_may_be_changed_in_place() -> None:
    problem = make(ragged(), 40, torch.float64)
    ours, theirs = _leaves(problem), _leaves(problem)

    _linear(problem, *ours).relu_().sum().backward()
    _registered(problem, *theirs).relu().sum().backward()

    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_an_operand_changed_in_place_before_the_backward_pass_is_noticed() -> None:
    problem = make(ragged(), 40, torch.float32)
    inputs, values, bias = _leaves(problem)
    result = _linear(problem, inputs, values, bias)
    with torch.no_grad():
        values.mul_(2)

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.sum().backward()


def test_values_exchanged_before_the_backward_pass_are_noticed() -> None:
    problem = make(ragged(), 40, torch.float32)
    inputs, values, bias = _leaves(problem)
    result = _linear(problem, inputs, values, bias)
    values.data = values.data[:2].clone()

    with pytest.raises(ValueError, match=r"2 values for a topology of \d+ active weights"):
        result.sum().backward()


class _Seen(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


def test_a_mode_that_looks_on_sees_the_operators() -> None:
    problem = make(ragged(), 4, torch.float32)
    leaves = _leaves(problem)

    with _Seen() as seen:
        _linear(problem, *leaves).sum().backward()

    assert {"gossamer.sparse_linear.default", "gossamer.sparse_linear_backward.default"} <= seen.names


def test_transforms_of_functions_work() -> None:
    problem = make(ragged(), 4, torch.float64)
    inputs, values, bias = _leaves(problem)
    expected = torch.autograd.grad(_linear(problem, inputs, values, bias).square().sum(), (inputs, values, bias))

    parts = tuple(part.detach() for part in (inputs, values, bias))
    found = torch.func.grad(lambda *parts: _linear(problem, *parts).square().sum(), argnums=(0, 1, 2))(*parts)

    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("which", [(0, None, None), (None, 0, None), (0, 0, 0)])
def test_a_map_over_inputs_or_over_networks_works(which: tuple[int | None, ...]) -> None:
    problem = make(ragged(), 4, torch.float64)
    parts = [part.detach() for part in _leaves(problem)]
    stacked = [
        part if axis is None else torch.stack([part, 2 * part, -part]) for part, axis in zip(parts, which, strict=True)
    ]

    found = torch.func.vmap(lambda *parts: _linear(problem, *parts), in_dims=which)(*stacked)

    for i in range(3):
        one = [part if axis is None else part[i] for part, axis in zip(stacked, which, strict=True)]
        torch.testing.assert_close(found[i], _linear(problem, *one))


def test_a_parameter_as_input_takes_the_short_way() -> None:
    problem = make(ragged(), 4, torch.float32)

    result = _linear(problem, nn.Parameter(problem.x.t()), problem.values)

    assert result.grad_fn is not None
    assert type(result.grad_fn).__name__ == "_LinearBackward"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_numbers_take_the_long_way(dtype: torch.dtype) -> None:
    problem = make(ragged(), 4, dtype)

    assert torch.equal(
        _linear(problem, problem.x.t(), problem.values), _registered(problem, problem.x.t(), problem.values)
    )


@pytest.mark.parametrize("batch", [0, 1, 5, 16, 129])
@pytest.mark.parametrize("features", [0, 1, 7, 8, 16, 17, 300])
@pytest.mark.parametrize("dtype", DTYPES)
def test_transpose_moves_every_number(dtype: torch.dtype, features: int, batch: int) -> None:
    rows = torch.randn(batch, features, dtype=dtype)

    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        columns = cpu.transpose(rows)
        assert columns.is_contiguous()
        assert torch.equal(columns, rows.t())
