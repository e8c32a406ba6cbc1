import math

import pytest
import torch

from gossamer.controller import Controller
from gossamer.penalties import l1_step

NUM_WEIGHTS = 40


def lasso(controller: Controller, num_updates: int) -> list[int]:
    """Solve a regression by proximal steps under a controller; return the number of zeros before each update."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, NUM_WEIGHTS, dtype=torch.float64, generator=generator)
    targets = inputs @ torch.randn(NUM_WEIGHTS, dtype=torch.float64, generator=generator)
    gram, moment = inputs.T @ inputs / 200, inputs.T @ targets / 200
    rate = 1 / torch.linalg.eigvalsh(gram)[-1].item()
    weight, zeros = torch.ones(NUM_WEIGHTS, dtype=torch.float64), []
    for _ in range(num_updates):
        for _ in range(20):
            weight = l1_step(weight - rate * (gram @ weight - moment), threshold=rate * controller.strength)
        zeros.append(NUM_WEIGHTS - int(weight.count_nonzero()))
        controller.update(zeros[-1] / NUM_WEIGHTS)
    return zeros


@pytest.mark.parametrize("strength", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("asked", [8, 30, 39])
def test_a_lasso_comes_within_one_weight_of_the_asked_sparsity_from_any_start(strength: float, asked: int) -> None:
    controller = Controller(sparsity=asked / NUM_WEIGHTS, strength=strength)

    # A strength too large by 1e8 with only 1/40 too many zeros falls by exp(1/40) an update: about 740 updates.
    zeros = lasso(controller, 1000 if asked == 39 else 300)

    assert all(abs(count - asked) <= 1 for count in zeros[-20:])
    assert zeros[0] in (0, NUM_WEIGHTS) or strength == 1.0


def test_an_update_changes_the_logarithm_by_gain_times_error() -> None:
    controller = Controller(sparsity=0.75, strength=2.0, gain=4.0)

    assert controller.update(0.5) == pytest.approx(2.0 * math.e, rel=1e-15)
    assert controller.update(1.0) == pytest.approx(2.0, rel=1e-15)
    assert controller.strength == pytest.approx(2.0, rel=1e-15)


def test_at_the_asked_sparsity_the_strength_stays_as_it_is() -> None:
    controller = Controller(sparsity=0.9, strength=0.1)

    assert [controller.update(0.9) for _ in range(3)] == [0.1] * 3


def test_a_saved_controller_goes_on_as_it_would_have() -> None:
    first, second = Controller(sparsity=0.8, strength=1.0), Controller(sparsity=0.8, strength=5.0)
    first.update(0.3)

    second.load_state_dict(first.state_dict())

    assert second.update(0.6) == first.update(0.6)


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, float("nan")])
def test_a_sparsity_outside_its_range_is_refused(sparsity: float) -> None:
    with pytest.raises(ValueError, match="sparsity must lie in"):
        Controller(sparsity=sparsity, strength=1.0)


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_strength_and_gain_must_be_above_zero(value: float) -> None:
    with pytest.raises(ValueError, match="strength must be a finite number above 0"):
        Controller(sparsity=0.5, strength=value)
    with pytest.raises(ValueError, match="gain must be a finite number above 0"):
        Controller(sparsity=0.5, strength=1.0, gain=value)
    with pytest.raises(ValueError, match="strength must be a finite number above 0"):
        Controller(sparsity=0.5, strength=1.0).load_state_dict({"strength": value})


@pytest.mark.parametrize("state", [{}, {"strength": 1.0, "gain": 2.0}, {"gain": 2.0}])
def test_the_state_of_something_else_is_refused(state: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="holds strength alone"):
        Controller(sparsity=0.5, strength=1.0).load_state_dict(state)


@pytest.mark.parametrize("now", [-0.01, 1.01, float("nan")])
def test_a_measurement_that_is_no_fraction_is_refused(now: float) -> None:
    controller = Controller(sparsity=0.5, strength=1.0)

    with pytest.raises(ValueError, match="sparsity_now must lie in"):
        controller.update(now)
    assert controller.strength == 1.0


@pytest.mark.parametrize("now", [0.0, 1.0])
def test_a_strength_that_runs_away_is_an_error(now: float) -> None:
    controller = Controller(sparsity=0.5, strength=1.0, gain=100.0)

    with pytest.raises(RuntimeError, match="has no effect"):
        [controller.update(now) for _ in range(20)]
    assert 0 < controller.strength < math.inf
