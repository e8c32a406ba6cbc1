import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gossamer import masks

_FEW = settings(deadline=None, max_examples=100, derandomize=True)
_SCORES = st.lists(st.sampled_from([-math.inf, -1.0, -0.0, 0.0, 0.5, 1.0, math.inf]), max_size=30)
_DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32]


def _by_sorting(scores: list[float], count: int) -> list[int]:
    return sorted(sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:count])


@pytest.mark.parametrize(
    ("scores", "count", "expected"),
    [
        ([1.0, 3.0, 2.0, 4.0], 2, [1, 3]),
        ([1.0, 3.0, 3.0, 3.0], 2, [1, 2]),
        ([5.0, 5.0, 5.0, 5.0], 3, [0, 1, 2]),
        ([0.0, -0.0, 0.0], 2, [0, 1]),
        ([-math.inf, math.inf, -math.inf, math.inf], 3, [0, 1, 3]),
        ([-3.0, -1.0, -2.0], 1, [1]),
        ([2.0], 1, [0]),
        ([2.0, 1.0], 0, []),
        ([], 0, []),
    ],
)
def test_the_largest_are_kept_and_ties_go_to_the_first(scores: list[float], count: int, expected: list[int]) -> None:
    vector = torch.tensor(scores)

    assert masks.largest(vector, count).tolist() == expected
    assert masks.keep_largest(vector, count).nonzero().flatten().tolist() == expected


@_FEW
@given(_SCORES, st.floats(0, 1))
def test_the_selection_equals_a_stable_sort(scores: list[float], part: float) -> None:
    count = round(part * len(scores))

    assert masks.largest(torch.tensor(scores), count).tolist() == _by_sorting(scores, count)


@_FEW
@given(_SCORES, st.floats(0, 1), st.floats(0, 1))
def test_masks_are_nested_as_the_count_falls(scores: list[float], one: float, other: float) -> None:
    few, many = sorted(round(part * len(scores)) for part in (one, other))
    vector = torch.tensor(scores)

    smaller, larger = masks.keep_largest(vector, few), masks.keep_largest(vector, many)

    assert not (smaller & ~larger).any()
    assert int(smaller.sum()) == masks.overlap(smaller, larger) == few


@_FEW
@given(st.data())
def test_only_competitors_are_marked_and_their_count_is_exact(data: st.DataObject) -> None:
    scores = data.draw(_SCORES)
    competes = torch.tensor([data.draw(st.booleans()) for _ in scores], dtype=torch.bool)
    count = data.draw(st.integers(0, int(competes.sum())))

    mask = masks.keep_largest(torch.tensor(scores), count, competes=competes)

    assert int(mask.sum()) == count
    assert not (mask & ~competes).any()


def test_a_higher_score_that_does_not_compete_is_passed_over() -> None:
    scores = torch.tensor([[9.0, 1.0], [2.0, 2.0]])
    competes = torch.tensor([[False, True], [True, True]])

    assert masks.keep_largest(scores, 2, competes=competes).tolist() == [[False, False], [True, True]]


@pytest.mark.parametrize("dtype", _DTYPES)
def test_every_dtype_of_scores_is_ranked(dtype: torch.dtype) -> None:
    assert masks.keep_largest(torch.tensor([1, 3, 2], dtype=dtype), 2).tolist() == [False, True, True]


@pytest.mark.parametrize("shape", [(), (12,), (3, 4), (2, 3, 2), (0, 4), (1, 1, 1)])
def test_the_mask_has_the_shape_of_the_scores(shape: tuple[int, ...]) -> None:
    scores = torch.rand(shape, generator=torch.Generator().manual_seed(0))

    mask = masks.keep_largest(scores, scores.numel() // 2)

    assert (mask.shape, mask.dtype, int(mask.sum())) == (scores.shape, torch.bool, scores.numel() // 2)


@pytest.mark.parametrize("view", [Tensor.t, lambda scores: scores[::2], lambda scores: scores[:, ::2]])
def test_scores_need_not_be_contiguous(view: Callable[[Tensor], Tensor]) -> None:
    scores = view(torch.rand(6, 8, generator=torch.Generator().manual_seed(0)))

    mask = masks.keep_largest(scores, 5, competes=scores > 0.2)

    assert torch.equal(mask, masks.keep_largest(scores.clone(memory_format=torch.contiguous_format), 5))
    assert scores[mask].min() > scores[~mask].max()


def test_a_million_equal_scores_keep_exactly_the_first() -> None:
    mask = masks.keep_largest(torch.zeros(1_000_000), 123_456)

    assert int(mask.sum()) == int(mask[:123_456].sum()) == 123_456


@pytest.mark.parametrize("count", [-1, 4])
def test_a_count_out_of_range_is_refused_by_value(count: int) -> None:
    with pytest.raises(ValueError, match=f"^cannot keep {count} of 3 competing entries"):
        masks.keep_largest(torch.rand(3), count)


def test_more_than_compete_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^cannot keep 2 of 1 competing entries"):
        masks.keep_largest(torch.rand(3), 2, competes=torch.tensor([False, True, False]))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_score_that_is_no_number_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=r"^2 scores are NaN"):
        masks.keep_largest(torch.tensor([math.nan, 1.0, math.nan]), count)


def test_a_nan_that_does_not_compete_does_no_harm() -> None:
    mask = masks.keep_largest(torch.tensor([math.nan, 1.0]), 1, competes=torch.tensor([False, True]))

    assert mask.tolist() == [False, True]


def test_scores_are_left_untouched_and_give_no_gradient() -> None:
    scores = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)

    mask = masks.keep_largest(scores, 2)

    assert not mask.requires_grad
    assert scores.tolist() == [1.0, 2.0, 3.0]


def test_overlap_counts_what_is_active_in_both() -> None:
    mask, other = torch.tensor([[True, True], [False, True]]), torch.tensor([[True, False], [True, True]])

    assert masks.overlap(mask, other) == masks.overlap(other, mask) == 2
    assert masks.overlap(mask, ~mask) == 0


def test_masks_of_different_shapes_are_not_compared() -> None:
    with pytest.raises(ValueError, match=r"masks have shapes \(2, 3\) and \(3, 2\)"):
        masks.overlap(torch.ones(2, 3).bool(), torch.ones(3, 2).bool())


@pytest.mark.parametrize("shape", [(4,), (5,), (1, 4)])
def test_competitors_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"competes has shape .*\(2, 2\)"):
        masks.keep_largest(torch.rand(2, 2), 1, competes=torch.ones(shape, dtype=torch.bool))


@pytest.mark.parametrize(("shape", "num_active"), [((3, 4), 5), ((3, 4), 0), ((3, 4), 12), ((2, 3, 2), 7), ((0, 4), 0)])
def test_a_drawn_mask_has_exactly_its_count(shape: tuple[int, ...], num_active: int) -> None:
    one, again, other = (
        masks.draw(shape, num_active, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )

    assert (one.shape, one.dtype, int(one.sum())) == (shape, torch.bool, num_active)
    assert torch.equal(one, again)
    assert torch.equal(one, other) == (num_active in (0, 12))


def test_a_drawn_mask_favours_no_place() -> None:
    generator = torch.Generator().manual_seed(0)

    hits = torch.stack([masks.draw((2, 4), 3, generator=generator) for _ in range(800)]).sum(0)

    # 300 expected, deviation about 14
    assert 230 < int(hits.min()) <= int(hits.max()) < 370


def test_more_active_entries_than_entries_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot draw 13 different entries out of 12"):
        masks.draw((3, 4), 13, generator=torch.Generator())


def test_what_is_kept_of_an_output_is_scaled_by_the_root_of_its_lost_fan_in() -> None:
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]]).bool()

    assert masks.fan_in_scale(mask).tolist() == [[1.0], [2.0], [1.0]]
    assert masks.fan_in_scale(mask.view(3, 1, 2, 2)).shape == (3, 1, 1, 1)
    assert masks.fan_in_scale(torch.ones(2, 0).bool()).tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("count", [1, 2, 777, 150_000, 299_998, 300_000])
@pytest.mark.parametrize("kind", ["normal", "few values", "all equal", "ascending", "float16", "integers"])
def test_a_long_vector_is_ranked_as_a_full_sort_ranks_it(kind: str, count: int) -> None:
    scores = torch.randn(300_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores = {
        "normal": scores,
        "few values": (scores * 2).round(),
        "all equal": torch.ones_like(scores),
        "ascending": scores.sort().values,
        "float16": scores.half(),
        "integers": (scores * 1000).long(),
    }[kind]

    chosen = masks.largest(scores, count)

    assert torch.equal(chosen, scores.sort(descending=True, stable=True).indices[:count].sort().values)


def test_a_structure_that_a_stride_would_meet_again_and_again_does_no_harm() -> None:
    scores = torch.zeros(400_000)
    scores[::20] = 9.0
    scores[1] = 5.0

    assert masks.largest(scores, 20_001).tolist()[:3] == [0, 1, 20]


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(0, 8), min_size=1, max_size=4), share=st.floats(0, 1), seed=st.integers(0, 1000))
def test_of_several_tensors_the_largest_stay_and_of_equal_ones_the_first(
    sizes: list[int], share: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Few different values, so that there are ties within and between tensors.
    scores = {f"w{i}": torch.randint(4, (size, 2), generator=generator).float() for i, size in enumerate(sizes)}
    count = round(share * 2 * sum(sizes))

    marked = masks.keep_largest_of(scores, count)

    together, mask = torch.cat(list(scores.values())).flatten(), torch.cat(list(marked.values())).flatten()
    best = sorted(range(len(together)), key=lambda place: (-float(together[place]), place))[:count]
    assert mask.nonzero().flatten().tolist() == sorted(best)


def test_tensors_of_two_precisions_compete() -> None:
    # In float32 both would be equal, and the first would stay.
    scores = {"a": torch.tensor([1.0]), "b": torch.tensor([1.0 + 1e-12], dtype=torch.float64)}

    assert [mask.tolist() for mask in masks.keep_largest_of(scores, 1).values()] == [[False], [True]]


@pytest.mark.parametrize("count", [0, 2])
def test_scores_of_several_tensors_that_are_nan_are_named(count: int) -> None:
    with pytest.raises(ValueError, match="1 scores of b are NaN"):
        masks.keep_largest_of({"a": torch.ones(3), "b": torch.tensor([math.nan, 1.0])}, count)


def test_integers_that_are_no_floats_keep_their_order() -> None:
    scores = torch.tensor([2**60, 2**60 + 1, 2**60 - 1, 2**60])

    assert masks.keep_largest(scores, 1).tolist() == [False, True, False, False]
    assert masks.keep_largest(scores, 2).tolist() == [True, True, False, False]
