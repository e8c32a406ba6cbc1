import pytest
import torch

from gossamer.masks import keep_largest
from gossamer.solvers import l_obs, l_obs_scores, obc, obs_scores

from .layers import best, error, layer, with_dampening


def test_two_weights_by_hand() -> None:
    # The inverse of the Gram matrix is [[1, -1], [-1, 2]].
    weight, gram = torch.tensor([[2.0, 1.0]]), torch.tensor([[2.0, 1.0], [1.0, 1.0]])

    found = l_obs(weight, gram, num_active=1, dampening=0.0)

    assert l_obs_scores(weight, gram, dampening=0.0).tolist() == [pytest.approx([4.0, 0.5])]
    assert found.weight.tolist() == [pytest.approx([2.5, 0.0])]
    assert found.loss_increase == pytest.approx(0.5)


def test_a_score_is_the_output_error_of_the_best_layer_without_the_weight() -> None:
    weight, gram = layer(2, 4)
    scores = l_obs_scores(weight, gram, dampening=0.0)

    for place in range(8):
        mask = (torch.arange(8) != place).view(2, 4)
        assert float(scores.view(-1)[place]) == pytest.approx(error(weight, best(weight, gram, mask), gram), rel=1e-5)


def test_scores_are_those_of_obs_on_the_hessian_of_the_output_error() -> None:
    weight, gram = layer(3, 4)

    expected = obs_scores(weight, 2 * torch.block_diag(gram, gram, gram))

    torch.testing.assert_close(l_obs_scores(weight, gram, dampening=0.0), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("num_active", [3, 11, 19])
def test_the_mask_follows_the_scores_and_the_move_is_least_squares(num_active: int) -> None:
    weight, gram = layer(4, 5)

    found = l_obs(weight, gram, num_active=num_active, dampening=0.02)

    assert torch.equal(found.mask, keep_largest(l_obs_scores(weight, gram, dampening=0.02), num_active))
    torch.testing.assert_close(
        found.weight, best(weight, with_dampening(gram, 0.02), found.mask), rtol=1e-10, atol=1e-12
    )


def test_one_removal_is_that_of_obc_and_more_removals_cost_more_than_its_in_the_mean() -> None:
    # The second half is statistical, with fixed seeds.
    at_once = one_by_one = 0.0
    for seed in range(30):
        weight, gram = layer(4, 6, seed=seed)
        first, second = l_obs(weight, gram, num_active=23), obc(weight, gram, num_active=23)
        torch.testing.assert_close(first.weight, second.weight)
        at_once += l_obs(weight, gram, num_active=10).loss_increase
        one_by_one += obc(weight, gram, num_active=10).loss_increase

    assert one_by_one < 0.9 * at_once


def test_weights_of_dead_inputs_score_nothing() -> None:
    weight, gram = torch.tensor([[5.0, 1.0], [-7.0, 2.0]]), torch.diag(torch.tensor([0.0, 4.0]))

    assert l_obs_scores(weight, gram, dampening=0.0).tolist() == [[0.0, 4.0], [0.0, 16.0]]
