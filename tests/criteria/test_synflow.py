import itertools

import pytest
import torch
from torch import Tensor

from gossamer.criteria import synflow

from .network import noise


def chain(*sizes: int) -> list[Tensor]:
    """Return the weights of a chain of layers, of both signs."""
    return [noise(out, fan_in, seed=out) for fan_in, out in itertools.pairwise(sizes)]


def flow_grads(weights: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Return the flow and its gradient with regard to each weight."""
    leaves = [weight.clone().requires_grad_() for weight in weights]
    signal = torch.ones(weights[0].shape[1], dtype=weights[0].dtype)
    for leaf in leaves:
        signal = leaf.abs() @ signal
    return signal.sum().detach(), list(torch.autograd.grad(signal.sum(), leaves))


def test_a_score_is_the_sum_of_the_paths_through_the_weight() -> None:
    first, second = torch.tensor([[2.0, -1.0], [0.0, 3.0]]), torch.tensor([[-1.0, 4.0]])
    flow, grads = flow_grads([first, second])

    assert float(flow) == 15.0
    assert synflow(first, grads[0]).tolist() == [[2.0, 1.0], [0.0, 12.0]]
    assert synflow(second, grads[1]).tolist() == [[3.0, 12.0]]


def test_every_layer_holds_the_whole_flow() -> None:
    weights = chain(3, 5, 4, 6, 2)
    flow, grads = flow_grads(weights)

    for weight, grad in zip(weights, grads, strict=True):
        torch.testing.assert_close(synflow(weight, grad).sum(), flow, rtol=1e-12, atol=0.0)


def test_what_flows_into_a_hidden_unit_flows_out_of_it() -> None:
    weights = chain(3, 5, 4, 2)
    scores = [synflow(weight, grad) for weight, grad in zip(weights, flow_grads(weights)[1], strict=True)]

    for before, after in itertools.pairwise(scores):
        torch.testing.assert_close(before.sum(1), after.sum(0), rtol=1e-12, atol=0.0)


def test_the_gradient_by_the_weight_and_by_its_absolute_value_score_alike() -> None:
    weight = noise(3, 4, seed=0)
    grad = noise(3, 4, seed=1).abs()

    assert torch.equal(synflow(weight, grad * weight.sign()), synflow(weight.abs(), grad))
    assert torch.equal(synflow(weight, grad), synflow(weight.abs(), grad))


def test_the_flow_of_a_deep_network_leaves_single_precision_and_stays_finite_in_double() -> None:
    weights = [torch.full((4, 4), 4.0, dtype=torch.float64)] * 40
    flow, grads = flow_grads(weights)
    scores = synflow(weights[0], grads[0])

    # 16^40 * 4 = 2^162
    assert float(flow) == 2.0**162 > torch.finfo(torch.float32).max
    assert scores.dtype == torch.float64
    assert scores.sum() == flow


@pytest.mark.parametrize(
    ("weight", "grad", "dtype"),
    [
        (torch.float64, torch.float32, torch.float64),
        (torch.float16, torch.float64, torch.float64),
        (torch.float32, torch.float32, torch.float32),
        (torch.bfloat16, torch.float16, torch.float32),
    ],
    ids=str,
)
def test_scores_are_as_wide_as_the_widest_input_and_at_least_single(
    weight: torch.dtype, grad: torch.dtype, dtype: torch.dtype
) -> None:
    assert synflow(torch.ones(2, dtype=weight), torch.ones(2, dtype=grad)).dtype == dtype


@pytest.mark.parametrize("flow_dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_flow_through_a_weight_has_no_sign_in_any_precision(dtype: torch.dtype, flow_dtype: torch.dtype) -> None:
    weight, flow = torch.tensor([[2.0, -1.0], [-4.0, 0.0]], dtype=dtype), torch.tensor([[0.5, 3.0], [-0.25, 7.0]])

    scores = synflow(weight, flow.to(flow_dtype))

    assert scores.tolist() == [[1.0, 3.0], [1.0, 0.0]]
    assert scores.dtype == (torch.float64 if torch.float64 in (dtype, flow_dtype) else torch.float32)
