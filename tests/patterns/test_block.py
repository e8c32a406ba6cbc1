import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.patterns import block


def test_blocks_compete_by_their_sums() -> None:
    scores = torch.tensor([[5.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0]])

    # sums 5 and 8: the largest entry goes
    assert block(2, 2).keep(scores, 4).int().tolist() == [[0, 0, 1, 1], [0, 0, 1, 1]]


def test_a_cut_block_stays_where_only_it_makes_the_count() -> None:
    scores = torch.tensor([[9.0, 9.0, 1.0], [9.0, 9.0, 2.0], [3.0, 3.0, 0.0]])

    # blocks of 4, 2 (right), 2 (bottom), 1 (corner); three weights are 2 + 1
    assert block(2, 2).keep(scores, 3).int().tolist() == [[0, 0, 0], [0, 0, 0], [1, 1, 1]]
    assert [block(2, 2).nearest((3, 3), asked) for asked in range(10)] == list(range(10))


def test_of_two_counts_that_are_equally_near_the_smaller_is_taken_also_where_blocks_are_cut() -> None:
    # blocks of 15, 6 (right), 10 (bottom), 4 (corner)
    assert block(3, 5).nearest((5, 7), 8) == 6
    assert block(3, 5).nearest((5, 7), 9) == 10


def test_sums_do_not_lose_small_scores() -> None:
    scores = torch.full((2, 64), 2.0**-20)
    scores[0, 0] = scores[1, 0] = 2.0**10
    scores[1, 40] *= 2

    assert block(1, 64).keep(scores, 64).any(1).tolist() == [False, True]


def test_of_equal_sums_the_mask_without_cut_blocks_stays() -> None:
    # inner blocks of two, cut ones of one: two weights are one inner or two cut blocks
    assert block(1, 2).keep(torch.ones(2, 3), 2).int().tolist() == [[1, 1, 0], [0, 0, 0]]


def test_a_block_that_must_go_goes_even_where_blocks_are_cut() -> None:
    scores = torch.tensor([[-math.inf, 5.0, 1.0], [1.0, 1.0, 1.0]])

    assert block(1, 2).keep(scores, 4).int().tolist() == [[0, 0, 1], [1, 1, 1]]
    assert block(1, 2).keep(scores.abs(), 2).int().tolist() == [[1, 1, 0], [0, 0, 0]]


def test_a_group_with_both_infinities_is_refused() -> None:
    scores = torch.tensor([[math.inf, -math.inf], [1.0, 1.0]])

    with pytest.raises(ValueError, match="1 groups hold both inf and -inf"):
        block(1, 2).keep(scores, 2)


@settings(max_examples=100, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    asked=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_masks_of_any_size_have_the_nearest_count_and_whole_blocks(
    shape: tuple[int, int], size: tuple[int, int], asked: float, seed: int
) -> None:
    pattern = block(*size)
    count = pattern.nearest(shape, round(asked * math.prod(shape)))
    scores = torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    kept = pattern.keep(scores, count)

    groups = pattern.groups(shape).flatten()
    active = torch.bincount(groups, kept.flatten().double())
    assert int(kept.sum()) == count
    assert bool(((active == 0) | (active == torch.bincount(groups))).all())
    assert pattern.nearest(shape, count) == count


@pytest.mark.parametrize(("rows", "columns"), [(0, 2), (2, 0), (-1, 1)])
def test_an_empty_block_is_refused(rows: int, columns: int) -> None:
    with pytest.raises(ValueError, match="must be 1 or more, got"):
        block(rows, columns)
