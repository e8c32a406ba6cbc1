import math

import pytest
import torch

from gossamer.reparametrizations import TargetedDropout

from .cases import generator, normal


def make(sparsity: float, drop_probability: float) -> TargetedDropout:
    return TargetedDropout(sparsity=sparsity, drop_probability=drop_probability, generator=generator(0))


def test_each_row_loses_its_own_smallest() -> None:
    part = make(0.5, 0.5).eval()
    weight = torch.tensor([[4.0, -1.0, 2.0, -3.0], [0.4, -0.1, 0.2, -0.3]])

    assert part(weight).tolist() == [[4.0, 0.0, 0.0, -3.0], [pytest.approx(0.4), 0.0, 0.0, pytest.approx(-0.3)]]


@pytest.mark.parametrize(("sparsity", "kept"), [(0.0, 1000), (0.25, 750), (0.9, 100), (0.9999, 1)])
def test_rows_of_equal_weights_keep_the_first_of_them_in_exact_number(sparsity: float, kept: int) -> None:
    mask = make(sparsity, 0.5).mask(torch.full((3, 1000), -0.5))

    assert mask.tolist() == [[True] * kept + [False] * (1000 - kept)] * 3


def test_the_rows_of_a_convolution_are_its_filters() -> None:
    mask = make(0.75, 0.5).mask(normal((4, 2, 2, 2), 0))

    assert mask.flatten(1).sum(1).tolist() == [2] * 4


@pytest.mark.parametrize(("sparsity", "probability"), [(0.5, 0.5), (0.75, 0.3), (0.25, 0.9)])
def test_the_density_in_training_is_the_expected_one(sparsity: float, probability: float) -> None:
    part, weight = make(sparsity, probability), normal((1000, 100), 1)

    density = (part(weight) != 0).double().mean().item()

    # Of n candidates each is dropped by itself.
    candidates = int(100_000 * sparsity)
    error = math.sqrt(candidates * probability * (1 - probability)) / 100_000
    assert abs(density - (1 - sparsity * probability)) < 4 * error


def test_only_candidates_are_ever_dropped_and_the_others_are_not_changed() -> None:
    part, weight = make(0.5, 0.5), normal((20, 30), 1)
    stays = part.mask(weight)

    seen = torch.zeros_like(stays)
    for _ in range(30):
        value = part(weight)
        seen |= value == 0
        assert torch.equal(value[value != 0], weight[value != 0])
    assert torch.equal(seen, ~stays)


def test_a_probability_of_one_makes_training_like_eval_mode_and_zero_drops_nothing() -> None:
    weight = normal((20, 30), 1)

    assert torch.equal(make(0.5, 1.0)(weight), make(0.5, 1.0).eval()(weight))
    assert torch.equal(make(0.5, 0.0)(weight), weight)


def test_settings_out_of_range_and_a_weight_without_rows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"sparsity must lie in \[0, 1\), got 1.0"):
        make(1.0, 0.5)
    with pytest.raises(ValueError, match=r"drop_probability must lie in \[0, 1\], got 1.5"):
        make(0.5, 1.5)
    with pytest.raises(ValueError, match=r"weight has shape \(3,\); it needs rows"):
        make(0.5, 0.5).mask(torch.ones(3))
