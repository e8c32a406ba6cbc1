from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gossamer.kernels import ops

from .problem import DTYPES, MASKS, OPS, Problem, make, ragged


def _with_gradients(problem: Problem) -> Problem:
    x, values, grad = (part.clone().requires_grad_() for part in (problem.x, problem.values, problem.grad))
    bias = None if problem.bias is None else problem.bias.clone().requires_grad_()
    return replace(problem, x=x, values=values, grad=grad, bias=bias)


def _call(problem: Problem, op: str) -> tuple[Callable[..., Tensor], list[Tensor]]:
    """The operator as a function of its floats alone."""
    arguments = _with_gradients(problem).arguments(op)
    floats = [part for part in arguments[:-5] if part is not None]
    holes = [None] * (len(arguments) - 5 - len(floats))
    return lambda *parts: getattr(torch.ops.gossamer, op)(*parts, *holes, *problem.index), floats


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
@pytest.mark.parametrize("op", OPS)
def test_the_gradient_of_every_operator_is_right(op: str, mask: Tensor) -> None:
    for batch in (0, 3):
        assert torch.autograd.gradcheck(*_call(make(mask[:6, :5], batch, torch.float64), op), fast_mode=True)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("op", OPS)
def test_the_gradient_of_the_gradient_of_every_operator_is_right(op: str, bias: bool) -> None:
    function, floats = _call(make(ragged()[3:7, 3:8], 2, torch.float64, bias=bias), op)

    assert torch.autograd.gradcheck(function, floats)
    assert torch.autograd.gradgradcheck(function, floats)


@pytest.mark.parametrize("needed", range(1, 8))
def test_each_choice_of_gradients_gives_the_same_gradients(needed: int) -> None:
    function, floats = _call(make(ragged(), 40, torch.float64), "sparse_linear")
    full = torch.autograd.grad(function(*floats).square().sum(), floats)
    for place, part in enumerate(floats):
        part.requires_grad_(bool(needed >> place & 1))
    wanted = [place for place, part in enumerate(floats) if part.requires_grad]

    found = torch.autograd.grad(function(*floats).square().sum(), [floats[place] for place in wanted])

    torch.testing.assert_close(found, tuple(full[place] for place in wanted), rtol=1e-12, atol=1e-12)


def test_a_part_of_the_gradient_can_be_differentiated_again() -> None:
    function, (x, values, bias) = _call(make(ragged(), 3, torch.float64), "sparse_linear")
    dense = torch.zeros(23, 17, dtype=torch.float64)
    dense[ragged()] = values.detach()

    (grad_x,) = torch.autograd.grad(function(x, values, bias).pow(3).sum(), x, create_graph=True)
    (again,) = torch.autograd.grad(grad_x.square().sum(), x)

    twin = x.detach().clone().requires_grad_()
    (twin_grad,) = torch.autograd.grad((dense @ twin + bias.detach()[:, None]).pow(3).sum(), twin, create_graph=True)
    (expected,) = torch.autograd.grad(twin_grad.square().sum(), twin)
    torch.testing.assert_close(again, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
def test_torch_finds_no_fault_in_the_registration(op: str, dtype: torch.dtype) -> None:
    arguments = _with_gradients(make(ragged(), 5, dtype)).arguments(op)

    torch.library.opcheck(getattr(torch.ops.gossamer, op).default, arguments)


@pytest.mark.parametrize("op", OPS)
def test_torch_finds_no_fault_where_nothing_exists(op: str) -> None:
    problem = make(MASKS["nothing"], 0, torch.float32, bias=False)

    torch.library.opcheck(getattr(torch.ops.gossamer, op).default, _with_gradients(problem).arguments(op))


@pytest.mark.parametrize("op", OPS)
def test_operands_are_left_untouched_and_results_are_fresh(op: str) -> None:
    problem = make(ragged(), 40, torch.float32)
    arguments = [part for part in problem.arguments(op) if part is not None]
    copies = [part.clone() for part in arguments]

    results = problem.run(op)

    assert all(map(torch.equal, arguments, copies))
    assert not {part.data_ptr() for part in arguments} & {part.data_ptr() for part in results}


_GOOD = make(ragged(), 4, torch.float32)


@pytest.mark.parametrize(
    ("x", "values", "bias", "text"),
    [
        (torch.zeros(16, 4), _GOOD.values, None, r"input has shape \(16, 4\), the weight takes \[17, batch\]"),
        (torch.zeros(17), _GOOD.values, None, r"input has shape \(17,\), the weight takes \[17, batch\]"),
        (torch.zeros(17, 4, 2), _GOOD.values, None, r"input has shape \(17, 4, 2\)"),
        (_GOOD.x, _GOOD.values[:-1], None, r"\d+ values for a topology of \d+ active weights"),
        (_GOOD.x, _GOOD.values[None], None, r"\d+ values for a topology of \d+ active weights"),
        (_GOOD.x.double(), _GOOD.values, None, r"input is torch.float64 but the weight is torch.float32"),
        (_GOOD.x, _GOOD.values.double(), None, r"input is torch.float32 but the weight is torch.float64"),
        (_GOOD.x, _GOOD.values, torch.zeros(22), r"bias is torch.float32 of shape \(22,\), .* of shape \(23,\)"),
        (_GOOD.x, _GOOD.values, torch.zeros(1), r"bias is torch.float32 of shape \(1,\), .* of shape \(23,\)"),
        (_GOOD.x, _GOOD.values, torch.zeros(23, 1), r"bias is torch.float32 of shape \(23, 1\)"),
        (_GOOD.x, _GOOD.values, torch.zeros(23).double(), r"bias is torch.float64 .* takes torch.float32"),
        (_GOOD.x, _GOOD.values, torch.zeros(23).half(), r"bias is torch.float16 .* takes torch.float32"),
    ],
)
def test_operands_that_do_not_fit_are_refused_by_value(
    x: Tensor, values: Tensor, bias: Tensor | None, text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        ops.sparse_linear(x, values, bias, _GOOD.index)


def test_values_exchanged_between_forward_and_backward_are_noticed() -> None:
    values = _GOOD.values.clone().requires_grad_()
    result = ops.sparse_linear(_GOOD.x.clone().requires_grad_(), values, None, _GOOD.index)
    values.data = values.data[:2].clone()

    with pytest.raises(ValueError, match=r"2 values for a topology of \d+ active weights"):
        result.sum().backward()
