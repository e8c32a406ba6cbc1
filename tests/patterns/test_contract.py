import copy
import math
import pickle
import re
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gossamer import patterns

from .cases import CASES, Case

SMALL = settings(max_examples=40, deadline=None)
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.pattern!r}{case.shape}")
every_pattern = pytest.mark.parametrize("pattern", {case.pattern: None for case in CASES}, ids=repr)
nested_case = pytest.mark.parametrize(
    "case", [case for case in CASES if case.nested], ids=lambda case: f"{case.pattern!r}{case.shape}"
)


def scores_of(case: Case, seed: int, *, low: int = -5) -> Tensor:
    """Draw whole numbers, so that sums are exact and some are equal."""
    return torch.randint(low, 6, case.shape, generator=torch.Generator().manual_seed(seed)).float()


def nearest_of(feasible: set[int], asked: int) -> int:
    """Return the nearest of some counts, the smaller of two, 0 only if nothing was asked for."""
    return min((count for count in feasible if count or not asked), key=lambda count: (abs(count - asked), count))


def test_the_table_holds_every_public_pattern() -> None:
    names = {repr(case.pattern).partition("(")[0] for case in CASES}

    assert sorted(names) == sorted({*patterns.__all__} - {"Pattern"})


@every_case
def test_nearest_is_the_nearest_of_all_counts_that_masks_can_have(case: Case) -> None:
    feasible = case.counts()

    for asked in range(case.numel + 1):
        assert case.pattern.nearest(case.shape, asked) == nearest_of(feasible, asked)


@every_case
@pytest.mark.parametrize("seed", range(3))
def test_no_mask_of_that_count_has_a_larger_sum_of_scores(case: Case, seed: int) -> None:
    scores, best = scores_of(case, seed), dict[int, float]()
    for count, total in _counts_and_totals(case, scores):
        best[count] = max(best.get(count, -math.inf), total)

    for count, largest in best.items():
        kept = case.pattern.keep(scores, count)

        assert kept.shape == case.shape
        assert kept.dtype == torch.bool
        assert int(kept.sum()) == count
        assert case.allowed(kept)
        assert float(scores[kept].sum()) == largest


def _counts_and_totals(case: Case, scores: Tensor) -> Iterator[tuple[int, float]]:
    """Yield the count and the sum of scores of every mask."""
    masks = case.masks().flatten(1)
    totals = masks.double() @ scores.flatten().double()
    yield from zip(masks.sum(1).tolist(), totals.tolist(), strict=True)


@every_case
def test_a_count_that_no_mask_has_is_refused_and_the_nearest_named(case: Case) -> None:
    feasible = case.counts()

    for asked in {*range(case.numel + 1)} - feasible:
        nearest = nearest_of(feasible, asked)
        with pytest.raises(ValueError, match=rf"exactly {asked} weights .* the nearest count is {nearest},"):
            case.pattern.keep(torch.zeros(case.shape), asked)


@every_case
@pytest.mark.parametrize("asked", [-1, 13])
def test_a_count_outside_the_tensor_is_refused(case: Case, asked: int) -> None:
    for ask in (
        lambda: case.pattern.nearest(case.shape, asked),
        lambda: case.pattern.keep(torch.zeros(case.shape), asked),
    ):
        with pytest.raises(ValueError, match=rf"cannot keep {asked} weights .*; ask for 0 to {case.numel}$"):
            ask()


@every_case
def test_entries_of_a_group_come_and_go_together_and_groups_are_as_fine_as_can_be(case: Case) -> None:
    masks = case.masks().flatten(1)

    groups = case.pattern.groups(case.shape)

    flat = groups.flatten()
    assert groups.shape == case.shape
    assert groups.dtype == torch.int64
    assert groups.unique().tolist() == list(range(int(groups.max()) + 1))
    assert torch.equal(flat[:, None] == flat, (masks[:, :, None] == masks[:, None]).all(0))


@nested_case
def test_of_equal_scores_the_first_stay(case: Case) -> None:
    masks = case.masks().flatten(1)

    for count in case.counts():
        kept = case.pattern.keep(torch.full(case.shape, 0.1), count)

        assert kept.flatten().tolist() == max(masks[masks.sum(1) == count].tolist())


@nested_case
@SMALL
@given(seed=st.integers(0, 10_000))
def test_a_denser_mask_contains_a_sparser_one(case: Case, seed: int) -> None:
    scores = scores_of(case, seed)
    kept = [case.pattern.keep(scores, count) for count in sorted(case.counts())]

    for sparser, denser in pairwise(kept):
        assert not bool((sparser & ~denser).any())


@every_case
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_precisions_give_the_same_mask(case: Case, dtype: torch.dtype) -> None:
    scores = scores_of(case, 7)
    count = case.pattern.nearest(case.shape, case.numel // 2)

    assert torch.equal(case.pattern.keep(scores.to(dtype), count), case.pattern.keep(scores, count))


@every_case
def test_strides_do_not_matter_and_scores_are_left_as_they_are(case: Case) -> None:
    scores = scores_of(case, 8)
    wide = torch.stack([scores, -scores], -1).requires_grad_()
    count = case.pattern.nearest(case.shape, case.numel // 2)

    kept = case.pattern.keep(wide[..., 0], count)
    kept.logical_not_()

    assert torch.equal(~kept, case.pattern.keep(scores, count))
    assert torch.equal(wide.detach()[..., 0], scores)
    assert kept.is_contiguous()
    assert not kept.requires_grad


@every_case
def test_nan_scores_are_counted_and_refused(case: Case) -> None:
    scores = scores_of(case, 9)
    scores.view(-1)[1:3] = math.nan

    with pytest.raises(ValueError, match="2 scores are NaN"):
        case.pattern.keep(scores, case.pattern.nearest(case.shape, case.numel // 2))


@every_case
def test_infinite_scores_stay_first_and_go_first(case: Case) -> None:
    count = case.pattern.nearest(case.shape, case.numel // 2)
    most = case.pattern.keep(scores_of(case, 10), count)
    scores = torch.where(most, math.inf, -math.inf)

    assert torch.equal(case.pattern.keep(scores, count), most)


@every_pattern
@pytest.mark.parametrize("shape", [(0, 3, 2), (4, 0, 3), (4, 5, 0), (0, 0, 1)], ids=str)
def test_a_weight_without_entries_takes_every_pattern(pattern: patterns.Pattern, shape: tuple[int, ...]) -> None:
    assert pattern.nearest(shape, 0) == 0
    assert pattern.keep(torch.zeros(shape), 0).shape == shape
    assert pattern.groups(shape).shape == shape


@every_pattern
@pytest.mark.parametrize("shape", [(), (6,)], ids=str)
def test_a_vector_takes_no_pattern_of_matrices(pattern: patterns.Pattern, shape: tuple[int, ...]) -> None:
    if pattern == patterns.unstructured():
        assert pattern.groups(shape).flatten().tolist() == list(range(math.prod(shape)))
        return
    for ask in (
        lambda: pattern.nearest(shape, 1),
        lambda: pattern.keep(torch.ones(shape), 1),
        lambda: pattern.groups(shape),
    ):
        with pytest.raises(ValueError, match=re.escape(f"{pattern!r} needs a weight of at least two axes, (out, in)")):
            ask()


@every_pattern
def test_one_entry_is_kept_whole_or_refused(pattern: patterns.Pattern) -> None:
    if isinstance(pattern, type(patterns.nm(2, 4))):
        with pytest.raises(ValueError, match=r"needs at least 4 inputs, a weight of shape \(1, 1, 1\) has 1"):
            pattern.nearest((1, 1, 1), 1)
        return

    assert pattern.nearest((1, 1, 1), 1) == 1
    assert pattern.keep(torch.tensor([[[-1.0]]]), 1).tolist() == [[[True]]]


@every_pattern
def test_a_pattern_is_a_value(pattern: patterns.Pattern) -> None:
    made_again = eval(repr(pattern), {name: getattr(patterns, name) for name in patterns.__all__})

    assert made_again == pattern
    assert hash(made_again) == hash(pattern)
    assert pickle.loads(pickle.dumps(pattern)) == copy.deepcopy(pattern) == pattern
