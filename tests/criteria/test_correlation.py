import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gossamer.criteria import correlation
from gossamer.masks import keep_largest

from .network import noise

_FEW = settings(deadline=None, max_examples=60, derandomize=True)


def mixed(units: int, seed: int) -> Tensor:
    """Return the covariance of units that share a good deal; variances differ."""
    activations = noise(20, units, seed=seed) @ noise(units, units, seed=seed + 1)
    return torch.cov(activations.t()).view(units, units)


def one_pair_after_the_other(covariance: Tensor) -> Tensor:
    """Search all pairs of the units that remain, drop the one of smaller variance of the best, and so on."""
    units = range(len(covariance))
    remaining, scores = set(units), torch.ones(len(covariance))
    while len(remaining) > 1:
        pairs = {
            abs(float(covariance[i, j])) / math.sqrt(float(covariance[i, i] * covariance[j, j])): (i, j)
            for i in remaining
            for j in remaining
            if i < j
        }
        largest = max(pairs)
        gone = min(pairs[largest], key=lambda unit: float(covariance[unit, unit]))
        scores[gone] = 1.0 - largest
        remaining.remove(gone)
    return scores


def test_of_a_pair_the_unit_of_smaller_variance_scores_their_correlation() -> None:
    covariance = torch.tensor([[1.0, 1.0, 0.0], [1.0, 4.0, -1.5], [0.0, -1.5, 9.0]])

    # 1 and 0: 1 / 2; 2 and 1: 1.5 / 6
    assert correlation(covariance).tolist() == [0.5, 0.75, 1.0]


def test_of_twins_one_stays_even_when_they_mirror_one_another() -> None:
    assert correlation(torch.tensor([[2.0, -2.0], [-2.0, 2.0]])).tolist() == [1.0, 0.0]


def test_a_unit_is_not_judged_by_a_partner_that_has_gone_before() -> None:
    # The middle one goes into the first; the last is close to the middle, but not to the first.
    covariance = torch.tensor([[1.0, 0.75, 0.25], [0.75, 1.0, 0.5], [0.25, 0.5, 1.0]])

    assert correlation(covariance).tolist() == [1.0, 0.25, 0.75]


@_FEW
@given(units=st.integers(1, 8), seed=st.integers(0, 1000))
def test_scores_are_those_of_merging_one_pair_after_the_other(units: int, seed: int) -> None:
    covariance = mixed(units, seed)

    torch.testing.assert_close(correlation(covariance), one_pair_after_the_other(covariance), rtol=0.0, atol=1e-6)


@_FEW
@given(seed=st.integers(0, 1000))
def test_each_unit_that_goes_has_a_partner_of_that_correlation_among_those_that_stay(seed: int) -> None:
    covariance = mixed(7, seed)
    scores = correlation(covariance)
    deviation = covariance.diagonal().sqrt()
    related = covariance / deviation / deviation[:, None]

    for count in range(1, 7):
        staying = keep_largest(scores, count)
        last = int(scores.masked_fill(staying, -1.0).argmax())

        assert abs(float(scores[last]) - 1.0 + float(related[last][staying].abs().max())) < 1e-6


def test_constant_units_score_zero_and_stand_in_for_nobody() -> None:
    covariance = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 0.5], [0.0, 0.5, 1.0]])

    assert correlation(covariance).tolist() == [0.0, 1.0, 0.5]
    assert correlation(torch.zeros(2, 2)).tolist() == [0.0, 0.0]


def test_covariances_whose_products_leave_single_precision_are_related_all_the_same() -> None:
    covariance = torch.tensor([[1.0, 0.5], [0.5, 1.0]])

    for scale in (2.0**-100, 2.0**100):
        assert correlation(covariance * scale).tolist() == [1.0, 0.5]


def test_no_units_have_no_scores() -> None:
    assert correlation(torch.zeros(0, 0)).tolist() == []


def test_a_matrix_that_is_not_square_is_refused() -> None:
    with pytest.raises(ValueError, match=r"activation_covariance has shape \(2, 3\)"):
        correlation(torch.zeros(2, 3))
