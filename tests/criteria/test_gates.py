import pytest
import torch
from torch import Tensor

from gossamer.criteria import head_gates, skeletonization

from .network import gradient, noise


def gated_losses(gates: Tensor) -> Tensor:
    """Return the loss of each of five samples with a factor on each of four units."""
    activations, readers, targets = noise(5, 4, seed=0), noise(2, 4, seed=1), noise(5, 2, seed=2)
    return ((gates * activations) @ readers.t() - targets).square().sum(1)


def ones() -> Tensor:
    return torch.ones(4, dtype=torch.float64)


def test_a_unit_whose_gate_lowers_the_loss_stays() -> None:
    assert skeletonization(torch.tensor([-2.0, 0.0, 0.5])).tolist() == [2.0, 0.0, -0.5]


def test_a_score_is_the_rise_of_the_loss_as_the_gate_begins_to_close() -> None:
    scores = skeletonization(gradient(lambda gates: gated_losses(gates).mean(), ones()))

    for unit in range(4):
        closing = torch.zeros(4, dtype=torch.float64)
        closing[unit] = 1e-5
        rise = (gated_losses(ones() - closing) - gated_losses(ones() + closing)).mean() / 2e-5

        torch.testing.assert_close(scores[unit].double(), rise, rtol=1e-6, atol=1e-8)


def test_where_the_loss_is_linear_a_score_is_the_rise_when_the_unit_is_off() -> None:
    factors = noise(4, seed=3)
    rises = torch.stack([-factor for factor in factors])

    torch.testing.assert_close(
        skeletonization(gradient(lambda gates: (factors * gates).sum(), ones())).double(), rises, rtol=1e-7, atol=0.0
    )


def test_samples_that_pull_a_head_in_opposite_directions_do_not_cancel() -> None:
    assert head_gates(torch.tensor([[1.0, 0.25], [-3.0, 0.25]])).tolist() == [2.0, 0.25]


def test_a_head_scores_the_mean_slope_of_the_samples_losses() -> None:
    jacobian = torch.autograd.functional.jacobian(gated_losses, ones())
    slopes = [gradient(lambda gates, n=n: gated_losses(gates)[n], ones()).abs() for n in range(5)]  # type: ignore[misc]

    torch.testing.assert_close(head_gates(jacobian).double(), sum(slopes) / 5, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("shape", [(4,), (0, 4), (2, 3, 4)], ids=str)
def test_gates_without_samples_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="gate_grads has shape"):
        head_gates(torch.zeros(shape))
