import math

import torch

from gossamer.criteria import fisher, obd
from gossamer.masks import keep_largest

from .network import hidden_weight, noise, sample_losses, scaled


def test_a_small_weight_in_a_steep_direction_outweighs_a_large_one_in_a_flat() -> None:
    assert obd(torch.tensor([4.0, -1.0, 2.0]), torch.tensor([0.25, 6.0, -1.0])).tolist() == [2.0, 3.0, -2.0]


def test_at_the_minimum_of_a_quadratic_loss_a_score_is_the_rise_without_the_weight() -> None:
    root, weight = noise(4, 4, seed=0), noise(4, seed=1)
    hessian = root @ root.t()
    rises = torch.stack([(w - weight) @ hessian @ (w - weight) / 2 for w in scaled(weight, 0.0)])

    torch.testing.assert_close(obd(weight, hessian.diagonal()).double(), rises, rtol=1e-6, atol=0.0)


def test_with_equal_curvatures_it_ranks_as_magnitude() -> None:
    weight = noise(5, 4, seed=0)

    scores = obd(weight, torch.full((5, 4), 3.0))
    assert torch.equal(keep_largest(scores, 7), keep_largest(weight.abs(), 7))


def test_fisher_takes_the_mean_squared_gradient_for_the_curvature() -> None:
    assert fisher(torch.tensor([4.0, -1.0, 2.0]), torch.tensor([0.25, 6.0, 0.0])).tolist() == [2.0, 3.0, 0.0]


def test_fisher_sums_over_samples_what_each_gradient_says_of_the_weight() -> None:
    weight = hidden_weight()
    jacobian = torch.autograd.functional.jacobian(sample_losses, weight)
    expected = torch.stack([(weight * grad).square() / 2 for grad in jacobian]).mean(0)

    torch.testing.assert_close(fisher(weight, jacobian.square().mean(0)).double(), expected, rtol=1e-6, atol=0.0)


def test_fisher_is_obd_where_the_labels_follow_the_model() -> None:
    # A logistic model that gives the input 2 a probability of 1/4, and four labels of which one is positive.
    weight, labels = torch.tensor([-math.log(3.0) / 2], dtype=torch.float64), torch.tensor([1.0, 0.0, 0.0, 0.0])
    grads = (0.25 - labels.double()) * 2.0
    hessian_diagonal = torch.tensor([0.25 * 0.75 * 4.0], dtype=torch.float64)

    torch.testing.assert_close(
        fisher(weight, grads.square().mean()[None]), obd(weight, hessian_diagonal), rtol=1e-7, atol=0.0
    )


def test_the_square_of_a_weight_may_leave_single_precision_where_the_score_does_not() -> None:
    weight = torch.tensor([2.0**-80, 2.0**80])
    curvature = torch.tensor([2.0**100, 2.0**-100])

    assert fisher(weight, curvature).tolist() == [2.0**-61, 2.0**59]
    assert obd(weight, curvature).tolist() == [2.0**-61, 2.0**59]
