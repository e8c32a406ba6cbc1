import math

import torch

from gossamer.criteria import magnitude


def test_magnitude_is_the_absolute_value() -> None:
    weight = torch.tensor([[-2.0, 0.5], [-0.0, 1.5]])

    assert magnitude(weight).tolist() == [[2.0, 0.5], [0.0, 1.5]]


def test_a_nan_stays_a_nan_and_is_not_taken_for_a_small_weight() -> None:
    assert math.isnan(magnitude(torch.tensor([float("nan"), 1.0]))[0])
