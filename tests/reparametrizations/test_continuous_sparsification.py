import math

import pytest
import torch

from gossamer.reparametrizations import ContinuousSparsification

from .cases import normal


def test_gates_are_sigmoids_in_training_and_steps_in_eval_mode() -> None:
    part = ContinuousSparsification((3,), first_score=0.0)
    part.scores.data = torch.tensor([math.log(3.0), 0.0, -math.log(3.0)])
    weight = torch.tensor([4.0, 4.0, 4.0])

    torch.testing.assert_close(part(weight).detach(), torch.tensor([3.0, 2.0, 1.0]))
    torch.testing.assert_close(part.penalty(weight).item(), 1.5)
    assert part.eval()(weight).tolist() == [4.0, 0.0, 0.0]
    assert part.mask(weight).tolist() == [True, False, False]


def test_the_gates_approach_the_step_as_the_temperature_grows() -> None:
    part = ContinuousSparsification((500,), first_score=0.0).double()
    scores = normal((500,), 0).double()
    part.scores.data = scores + 0.05 * scores.sign()
    weight = torch.ones(500, dtype=torch.float64)
    step = part.eval()(weight)
    distances = []
    for temperature in (1.0, 10.0, 100.0, 1000.0):
        part.train().set_temperature_(temperature)
        distances.append((part(weight) - step).abs().max().item())

    # The farthest gate is that of the score nearest to 0.
    least = part.scores.abs().min().item()
    expected = [1 / (1 + math.exp(temperature * least)) for temperature in (1.0, 10.0, 100.0, 1000.0)]
    assert distances == pytest.approx(expected, rel=1e-9)
    assert distances[-1] < 1e-20


def test_a_score_for_a_row_counts_all_its_weights() -> None:
    part = ContinuousSparsification((3, 1), first_score=0.0)

    assert part.penalty(torch.ones(3, 4)).item() == 6.0
    assert part.mask(torch.ones(3, 4)).shape == (3, 4)


def test_another_round_keeps_dropped_scores_low_and_starts_the_others_anew() -> None:
    part = ContinuousSparsification((4,), first_score=0.5)
    part.scores.data = torch.tensor([-1.0, 0.01, 0.2, 3.0])
    part.set_temperature_(10.0)

    part.start_round_()

    torch.testing.assert_close(part.scores.detach(), torch.tensor([-10.0, 0.1, 0.5, 0.5]))
    assert part.temperature == 1.0


def test_the_temperature_is_saved_and_keeps_its_precision_in_a_model_of_half_precision() -> None:
    part = ContinuousSparsification((4,), first_score=0.5).half()
    part.set_temperature_(1.0 + 2.0**-40)
    other = ContinuousSparsification((4,), first_score=0.5)

    other.load_state_dict(part.state_dict())

    assert other.temperature == 1.0 + 2.0**-40


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_a_temperature_that_is_no_finite_number_above_zero_is_refused(temperature: float) -> None:
    part = ContinuousSparsification((4,), first_score=0.5)

    with pytest.raises(ValueError, match="temperature must be a finite number above 0"):
        part.set_temperature_(temperature)
    assert part.temperature == 1.0
