import pytest
import torch

from gossamer.penalties import l1, l1_step


def test_l1_is_the_sum_of_magnitudes_and_its_gradient_the_sign() -> None:
    weight = torch.tensor([2.0, -1.0, 0.0, 0.5], requires_grad=True)

    value = l1(weight)
    value.backward()

    assert value.item() == 3.5
    assert weight.grad is not None
    assert weight.grad.tolist() == [1.0, -1.0, 0.0, 1.0]


def test_the_step_shortens_by_the_threshold_and_stops_at_zero() -> None:
    weight = torch.tensor([2.0, -0.75, 0.5, -0.5, 0.25, 0.0])

    assert l1_step(weight, threshold=0.5).tolist() == [1.5, -0.25, 0.0, 0.0, 0.0, 0.0]


def test_a_threshold_of_zero_changes_nothing() -> None:
    weight = torch.tensor([1e-38, -3.0, 0.0])

    assert torch.equal(l1_step(weight, threshold=0.0), weight)


@pytest.mark.parametrize("seed", range(3))
def test_the_step_solves_its_minimisation(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(50, dtype=torch.float64, generator=generator)
    threshold = 0.7

    def objective(x: torch.Tensor) -> torch.Tensor:
        return (x - weight).square() / 2 + threshold * x.abs()

    least = objective(l1_step(weight, threshold=threshold))
    grid = torch.linspace(-4.0, 4.0, 8001, dtype=torch.float64)[:, None].expand(-1, 50)

    # On a grid of step 0.001 the least value lies at most threshold * 0.0005 + 0.0005**2 / 2 too high.
    found = objective(grid).amin(0)
    assert (least <= found + 1e-15).all()
    assert (found - least).max() < 1e-6 + 2 * threshold * 0.0005


def test_proximal_steps_reach_the_lasso_solution() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 8, dtype=torch.float64, generator=generator)
    targets = inputs[:, 0] * 2 - inputs[:, 1] + 0.1 * torch.randn(40, dtype=torch.float64, generator=generator)
    gram, moment, strength = inputs.T @ inputs / 40, inputs.T @ targets / 40, 0.2
    rate = 1 / torch.linalg.eigvalsh(gram)[-1].item()
    weight = torch.zeros(8, dtype=torch.float64)
    for _ in range(500):
        weight = l1_step(weight - rate * (gram @ weight - moment), threshold=rate * strength)
    gradient = gram @ weight - moment

    # Optimality: the gradient opposes the sign of what stays, and is no longer than the strength elsewhere.
    active = weight != 0
    assert 0 < int(active.sum()) < 8
    torch.testing.assert_close(gradient[active], -strength * weight[active].sign(), rtol=0, atol=1e-12)
    assert (gradient[~active].abs() <= strength).all()
