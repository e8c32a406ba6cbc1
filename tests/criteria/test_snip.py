import torch

from gossamer.criteria import snip

from .network import gradient, hidden_weight, loss, noise, scaled, slope_of_scaling


def test_a_large_weight_without_gradient_counts_for_nothing() -> None:
    assert snip(torch.tensor([5.0, -1.0, 2.0]), torch.tensor([0.0, 2.0, 1.5])).tolist() == [0.0, 2.0, 3.0]


def test_a_score_is_the_slope_of_the_loss_when_the_weight_is_scaled() -> None:
    weight = hidden_weight()
    scores = snip(weight, gradient(loss, weight))

    torch.testing.assert_close(scores.double(), slope_of_scaling(loss, weight).abs(), rtol=1e-6, atol=1e-8)


def test_in_a_linear_loss_a_score_is_the_whole_change_that_removal_brings() -> None:
    weight, factors = hidden_weight(), noise(4, 3, seed=5)
    changes = torch.stack([(factors * (weight - pruned)).sum().abs() for pruned in scaled(weight, 0.0)])

    torch.testing.assert_close(snip(weight, factors).flatten().double(), changes, rtol=1e-6, atol=0.0)
