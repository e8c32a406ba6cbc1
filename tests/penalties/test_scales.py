import itertools

import pytest
import torch

from gossamer.penalties import polarization, slimming


def test_slimming_is_the_sum_of_magnitudes_and_its_gradient_the_sign() -> None:
    scale = torch.tensor([0.5, -1.0, 0.0], requires_grad=True)

    value = slimming(scale)
    value.backward()

    assert value.item() == 1.5
    assert scale.grad is not None
    assert scale.grad.tolist() == [1.0, -1.0, 0.0]


def test_polarization_takes_the_distances_from_the_mean_off_the_magnitudes() -> None:
    # Magnitudes add up to 4; the mean is 1, the distances are 1, 1, 0, 2.
    assert polarization(torch.tensor([0.0, 0.0, 1.0, 3.0]), t=2.0).item() == 4.0
    assert polarization(torch.tensor([0.0, 0.0, 1.0, 3.0]), t=0.5).item() == -2.0


@pytest.mark.parametrize(("t", "ones"), [(-1.5, 7), (0.0, 4), (1.0, 2), (1.5, 1), (2.5, 0)])
def test_factors_go_to_both_ends_of_their_range_and_t_says_how_many_stay(t: float, ones: int) -> None:
    levels = [0.0, 0.25, 0.5, 0.75, 1.0]
    candidates = torch.tensor(list(itertools.combinations_with_replacement(levels, 8)), dtype=torch.float64)
    costs = torch.stack([polarization(candidate, t=t) for candidate in candidates])

    best = candidates[costs == costs.min()]

    # A share of (2 - t) / 4 stays.
    assert best.tolist() == [[0.0] * (8 - ones) + [1.0] * ones]


@pytest.mark.parametrize("t", [float("nan"), float("inf")])
def test_a_t_that_is_no_number_is_refused(t: float) -> None:
    with pytest.raises(ValueError, match="t must be a finite number"):
        polarization(torch.ones(3), t=t)
