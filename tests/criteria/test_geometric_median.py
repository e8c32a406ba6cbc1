import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.criteria import geometric_median
from gossamer.masks import keep_largest

from .network import noise

_FEW = settings(deadline=None, max_examples=60, derandomize=True)
_SEEDS = st.integers(0, 1000)


def test_the_filter_in_the_middle_goes_first() -> None:
    weight = torch.tensor([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])

    assert geometric_median(weight).tolist() == [15.0, 10.0, 15.0]


@_FEW
@given(units=st.integers(1, 6), fan_in=st.integers(1, 5), seed=_SEEDS)
def test_scores_are_the_sums_of_all_distances(units: int, fan_in: int, seed: int) -> None:
    weight = noise(units, fan_in, seed=seed)
    sums = [sum(float((row - other).norm()) for other in weight) for row in weight]

    torch.testing.assert_close(geometric_median(weight), torch.tensor(sums), rtol=1e-6, atol=0.0)


@_FEW
@given(seed=_SEEDS)
def test_the_smallest_score_is_the_filter_nearest_to_the_point_of_least_distances(seed: int) -> None:
    weight, offset = noise(5, 3, seed=seed), noise(1, 3, seed=seed + 1)
    sums = torch.cdist(weight, weight).sum(0)

    assert int(geometric_median(weight).argmin()) == int(sums.argmin())
    assert torch.equal(
        keep_largest(geometric_median(weight + 8 * offset), 3), keep_largest(geometric_median(weight), 3)
    )


def test_equal_filters_have_no_distance_however_many_and_large_they_are() -> None:
    weight = (1000.0 * noise(1, 7, seed=0)).expand(40, 7)

    assert geometric_median(weight).tolist() == [0.0] * 40


def test_distances_whose_squares_underflow_single_precision_are_kept() -> None:
    assert geometric_median(torch.tensor([[0.0], [2.0**-100]])).tolist() == [2.0**-100] * 2
