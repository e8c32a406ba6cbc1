import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer import counts
from gossamer.updates.survive import in_each, keep_over_all, over_all


def free(*sizes: int) -> list[torch.Tensor]:
    return [torch.ones(size, dtype=torch.bool) for size in sizes]


def test_each_weight_loses_its_own_fraction() -> None:
    scores = [torch.tensor([4.0, 1.0, 3.0, 2.0]), torch.tensor([10.0, 20.0])]

    assert [mask.tolist() for mask in in_each(scores, free(4, 2), 0.5)] == [[True, False, True, False], [False, True]]


def test_over_all_weights_the_smallest_of_the_model_go() -> None:
    scores = [torch.tensor([4.0, 1.0, 3.0, 2.0]), torch.tensor([10.0, 20.0])]

    assert [mask.tolist() for mask in over_all(scores, free(4, 2), 0.5)] == [[True, False, False, False], [True, True]]


@pytest.mark.parametrize("rule", [in_each, over_all])
def test_a_fraction_that_would_empty_a_weight_leaves_its_best(rule: object) -> None:
    assert callable(rule)
    scores = [torch.tensor([0.1, 0.2]), torch.tensor([9.0, 8.0, 7.0]), torch.tensor([])]

    assert [mask.tolist() for mask in rule(scores, free(2, 3, 0), 1.0)] == [[False, True], [True, False, False], []]


@pytest.mark.parametrize("rule", [in_each, over_all])
def test_what_may_not_go_stays(rule: object) -> None:
    assert callable(rule)
    may_go = [torch.tensor([False, True, True]), torch.tensor([False, False])]

    found = rule([torch.tensor([0.0, 5.0, 6.0]), torch.tensor([1.0, 2.0])], may_go, 1.0)

    assert [mask.tolist() for mask in found] == [[True, False, True], [True, True]]


@pytest.mark.parametrize("rule", [in_each, over_all])
def test_equal_scores_stay_by_their_place(rule: object) -> None:
    assert callable(rule)
    found = rule([torch.ones(4), torch.ones(4)], free(4, 4), 0.25)

    if rule is in_each:
        assert [mask.tolist() for mask in found] == [[True, True, True, False]] * 2
    else:
        assert [mask.tolist() for mask in found] == [[True] * 4, [True, True, False, False]]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=4), st.floats(0, 1), st.integers(0, 99))
def test_the_number_dropped_is_exact(sizes: list[int], fraction: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = [torch.randint(3, (size,), generator=generator).float() for size in sizes]
    most = [max(0, size - 1) for size in sizes]

    each = in_each(scores, free(*sizes), fraction)
    every = over_all(scores, free(*sizes), fraction)

    gone = [int((~mask).sum()) for mask in each]
    assert gone == [min(m, counts.num_dropped(s, fraction)) for s, m in zip(sizes, most, strict=True)]
    assert sum(int((~mask).sum()) for mask in every) == min(sum(most), counts.num_dropped(sum(sizes), fraction))


def test_a_number_beyond_what_can_go_leaves_one_of_each() -> None:
    found = keep_over_all([torch.tensor([1.0, 2.0]), torch.tensor([3.0])], free(2, 1), 99)

    assert [mask.tolist() for mask in found] == [[False, True], [True]]
