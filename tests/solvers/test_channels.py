from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor

from gossamer.solvers import Solution, lasso_channels, reconstruct, thinet
from gossamer.solvers.channels import contributions
from gossamer.solvers.lasso_channels import descend

from .layers import best, error, layer

both = pytest.mark.parametrize("solve", [thinet, lasso_channels], ids=lambda solve: solve.__name__)


def removal_error(weight: Tensor, gram: Tensor, removed: list[int]) -> float:
    """Return E |sum over removed c of W_c x_c|^2."""
    kept = [c not in removed for c in range(weight.shape[1])]
    return error(weight, weight * torch.tensor(kept), gram)


def test_thinet_by_hand() -> None:
    # w_0 x_0 = x and w_1 x_1 = -x cancel: after 0 went for 1, removing 1 takes 1 back.
    gram = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    weight = torch.tensor([[1.0, -1.0, 1.1]])

    found = thinet(weight, gram, num_channels=1)

    assert found.mask.tolist() == [[False, False, True]]
    assert found.loss_increase == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_thinet_takes_the_channel_that_adds_least_each_time(seed: int) -> None:
    weight, gram = layer(3, 6, seed=seed)
    removed: list[int] = []

    for num_channels in (5, 4, 3, 2, 1):
        left = [c for c in range(6) if c not in removed]
        removed.append(min(left, key=lambda c: removal_error(weight, gram, [*removed, c])))
        found = thinet(weight, gram, num_channels=num_channels)
        assert (~found.mask[0]).nonzero().flatten().tolist() == sorted(removed)
        assert (found.mask == found.mask[0]).all()


def test_contributions_add_up_to_the_error_without_a_set_of_channels() -> None:
    weight, gram = layer(3, 8)
    products = contributions(weight, gram, 2)

    for removed in combinations(range(4), 2):
        places = torch.isin(torch.arange(4), torch.tensor(removed))
        expected = error(weight, weight * ~places.repeat_interleave(2), gram)
        assert float(products[places][:, places].sum()) == pytest.approx(expected, rel=1e-12)


@both
@pytest.mark.parametrize("samples", [3, 60])
def test_what_stays_is_least_squares_and_costs_no_more_than_before(
    solve: Callable[..., Solution], samples: int
) -> None:
    weight, gram = layer(5, 6, samples=samples)

    found = solve(weight, gram, num_channels=3)

    assert found.loss_increase <= error(weight, weight * found.mask, gram) * (1 + 1e-12)
    torch.testing.assert_close(found.weight, reconstruct(weight, gram, found.mask).weight, rtol=1e-8, atol=1e-9)
    if samples == 60:
        torch.testing.assert_close(found.weight, best(weight, gram, found.mask), rtol=1e-8, atol=1e-9)


@both
def test_a_convolution_loses_all_weights_of_a_channel(solve: Callable[..., Solution]) -> None:
    weight, gram = layer(4, 12)

    found = solve(weight.view(4, 3, 2, 2), gram, num_channels=2, channel_size=4)

    assert found.mask.shape == (4, 3, 2, 2)
    channels = found.mask.flatten(2).sum(2)
    assert sorted(channels[0].tolist()) == [0, 4, 4]
    assert (channels == channels[0]).all()


@both
def test_channels_that_do_not_divide_the_inputs_are_refused(solve: Callable[..., Solution]) -> None:
    weight, gram = layer(4, 6)

    with pytest.raises(ValueError, match="6 inputs do not part into channels of 4"):
        solve(weight, gram, num_channels=1, channel_size=4)
    with pytest.raises(ValueError, match=r"num_channels must lie in \[0, 3\], got 4"):
        solve(weight, gram, num_channels=4, channel_size=2)


@both
def test_a_copy_of_a_channel_goes_for_nothing(solve: Callable[..., Solution]) -> None:
    # x_3 = x_1, so that one of the two can take over for both.
    weight, gram = layer(4, 4)
    copied = torch.tensor([0, 1, 2, 1])
    gram = gram[copied][:, copied]
    weight[:, [0, 2]] *= 20.0

    assert solve(weight, gram, num_channels=3).loss_increase == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("penalty", [0.0, 0.05, 0.5, 3.0, 100.0])
def test_the_descent_meets_the_conditions_of_the_minimum(penalty: float) -> None:
    weight, gram = layer(3, 5)
    quadratic, target = gram.numpy(), (gram @ weight[0]).numpy()

    factors = descend(quadratic, target, penalty, np.zeros(5))

    slope = quadratic @ factors - target
    inside = factors == 0
    assert np.all(np.abs(slope[inside]) <= penalty + 1e-5)
    np.testing.assert_allclose(slope[~inside], -penalty * np.sign(factors[~inside]), atol=1e-5)
    assert penalty < 100 or inside.all()


def test_the_lasso_of_independent_channels_keeps_the_largest_contributions() -> None:
    weight, _ = layer(3, 6)
    power = torch.tensor([1.0, 4.0, 0.25, 9.0, 2.0, 0.01], dtype=torch.float64)

    for num_channels in range(7):
        # b_c = power |W_c| less the penalty, over power: it leaves zero at the penalty power |W_c|.
        expected = (power * weight.norm(dim=0)).topk(num_channels).indices.sort().values
        found = lasso_channels(weight, torch.diag(power), num_channels=num_channels)
        assert found.mask[0].nonzero().flatten().tolist() == expected.tolist()


def test_scaling_a_channel_against_its_input_leaves_the_choice_of_thinet() -> None:
    weight, gram = layer(4, 6)
    scale = torch.tensor([1.0, 10.0, 0.1, 3.0, 1.0, 0.5], dtype=torch.float64)

    found = thinet(weight / scale, gram * torch.outer(scale, scale), num_channels=3)

    assert torch.equal(found.mask, thinet(weight, gram, num_channels=3).mask)


def test_both_choices_cost_less_than_chance_in_the_mean() -> None:
    # Statistical, with fixed seeds.
    greedy = lasso = chance = 0.0
    for seed in range(20):
        weight, gram = layer(4, 8, seed=seed)
        kept = torch.randperm(8, generator=torch.Generator().manual_seed(seed))[:4]
        greedy += thinet(weight, gram, num_channels=4).loss_increase
        lasso += lasso_channels(weight, gram, num_channels=4).loss_increase
        mask = torch.isin(torch.arange(8), kept).expand(4, 8)
        chance += reconstruct(weight, gram, mask).loss_increase

    assert greedy < 0.7 * chance
    assert lasso < 0.7 * chance


def test_of_equal_channels_thinet_removes_the_later() -> None:
    assert thinet(torch.ones(1, 3), torch.eye(3), num_channels=1).mask.tolist() == [[True, False, False]]


def test_the_search_ends_at_a_penalty_that_leaves_so_many_factors() -> None:
    checked = 0
    for seed in range(4):
        weight, gram = layer(3, 6, seed=seed)
        unit = weight / weight.norm(dim=0)
        quadratic, target = (unit.t() @ unit * gram).numpy(), (unit.t() @ weight * gram).sum(1).numpy()
        # Every support on a fine grid of penalties; where two factors leave at once, a size is missing.
        penalties = np.geomspace(1e-3, 1.0, 150) * np.abs(target).max()
        supports = [np.flatnonzero(descend(quadratic, target, penalty, np.zeros(6))).tolist() for penalty in penalties]
        for size in {len(support) for support in supports} - {0}:
            found = lasso_channels(weight, gram, num_channels=size).mask[0].nonzero().flatten().tolist()
            assert found in [support for support in supports if len(support) == size]
            checked += 1

    assert checked >= 18
