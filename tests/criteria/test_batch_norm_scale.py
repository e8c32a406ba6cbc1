import torch

from gossamer.criteria import batch_norm_scale


def test_a_unit_scores_the_absolute_value_of_its_factor() -> None:
    assert batch_norm_scale(torch.tensor([-0.5, 0.0, 2.0])).tolist() == [0.5, 0.0, 2.0]
