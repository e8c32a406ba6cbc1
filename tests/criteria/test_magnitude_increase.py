import torch

from gossamer.criteria import magnitude_increase


def test_a_weight_scores_what_its_absolute_value_has_gained() -> None:
    weight = torch.tensor([[-3.0, 0.5], [0.0, 1.5]])
    first_weight = torch.tensor([[1.0, 2.0], [-0.5, -1.5]])

    assert magnitude_increase(weight, first_weight).tolist() == [[2.0, -1.5], [-0.5, 0.0]]


def test_a_small_gain_on_a_large_double_is_not_lost_in_rounding() -> None:
    first_weight = torch.tensor([1000.0], dtype=torch.float64)

    assert magnitude_increase(first_weight + 2.0**-30, first_weight).tolist() == [2.0**-30]
