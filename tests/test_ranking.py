import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gossamer import ranking
from gossamer.masks import keep_largest

MANY = 150_000


def numbers(kind: str, count: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(count, generator=generator, dtype=torch.float64)
    made = {
        "normal": drawn,
        "wide": drawn.mul(30).exp(),
        "few": drawn.round(),
        "mostly zero": torch.where(drawn > 2, drawn, 0.0),
        "mostly one": torch.where(drawn.abs() < 2.5, 1.0, drawn),
        "ascending": drawn.sort().values,
        "descending": drawn.sort(descending=True).values,
        "infinite": torch.where(drawn.abs() > 2, drawn * math.inf, drawn),
    }[kind]
    return made.to(dtype)


KINDS = ["normal", "wide", "few", "mostly zero", "mostly one", "ascending", "descending", "infinite"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_kth_of_many_is_that_of_a_sort(kind: str, dtype: torch.dtype) -> None:
    values = numbers(kind, MANY, seed=0, dtype=dtype)
    ordered = values.sort(descending=True).values

    for count in (1, 2, 20, MANY // 100, MANY // 2, MANY - 3, MANY):
        found = ranking.kth_largest([values], count)

        assert found.dtype == dtype
        assert found == ordered[count - 1]


@settings(max_examples=30, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=5),
    share=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_the_kth_of_several_tensors_is_that_of_all_of_them(kinds: list[str], share: float, seed: int) -> None:
    parts = [numbers(kind, size, seed) for kind, size in zip(kinds, (99_000, 2_000, 7, 0, 50_000), strict=False)]
    total = sum(part.numel() for part in parts)
    count = max(1, round(share * total))

    found = ranking.kth_largest(parts, count)

    assert found == torch.cat(parts).sort(descending=True).values[count - 1]


@pytest.mark.parametrize("values", [torch.arange(MANY), torch.arange(7), torch.tensor([2.0]), torch.ones(3, 4)[:, ::2]])
def test_integers_small_and_strided_tensors_are_ranked_too(values: Tensor) -> None:
    count = (values.numel() + 1) // 2

    assert ranking.kth_largest([values], count) == values.flatten().sort(descending=True).values[count - 1]


@pytest.mark.parametrize("count", [10, MANY])
def test_a_nan_counts_as_the_largest(count: int) -> None:
    values = numbers("normal", count, seed=1)
    values[[0, 5, 7]] = math.nan

    ordered = values[~values.isnan()].sort(descending=True).values
    assert ranking.kth_largest([values], 3).isnan()
    assert ranking.kth_largest([values], 4) == ordered[0]
    assert ranking.kth_largest([values], count // 2 + 3) == ordered[count // 2 - 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_what_lies_beside_a_threshold_is_counted(dtype: torch.dtype) -> None:
    values = torch.tensor([[1.0, 2.0, math.nan], [2.0, math.inf, -math.inf]], dtype=dtype)

    assert ranking.beside(values, torch.tensor(2.0)) == (1, 2, 1)
    assert ranking.beside(values, torch.tensor(math.inf)) == (0, 1, 1)
    assert ranking.beside(values[:, :0], torch.tensor(2.0)) == (0, 0, 0)


def test_integers_lie_beside_a_threshold_too() -> None:
    assert ranking.beside(torch.tensor([3, 2, 2, 1]), torch.tensor(2)) == (1, 2, 0)


@pytest.mark.parametrize("count", [0, 1, 3, 5])
@pytest.mark.parametrize("size", [6, MANY])
def test_no_entry_is_kept_by_scores_of_which_one_is_nan(count: int, size: int) -> None:
    scores = torch.ones(size)
    scores[3] = math.nan

    with pytest.raises(ValueError, match="1 scores are NaN"):
        keep_largest(scores, count)


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(KINDS), share=st.floats(0, 1), seed=st.integers(0, 100))
def test_exactly_the_count_is_kept_of_many_and_none_below_one_that_is_dropped(
    kind: str, share: float, seed: int
) -> None:
    scores = numbers(kind, MANY, seed, torch.float32)
    count = round(share * MANY)

    mask = keep_largest(scores, count)

    assert int(mask.sum()) == count
    assert not 0 < count < MANY or scores[mask].min() >= scores[~mask].max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64])
def test_what_is_taken_spread_and_placed_equals_indexing(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    for size in (0, 1, 100):
        for density in (0.0, 0.5, 1.0):
            mask = torch.rand(size, generator=generator) < density
            numbers = torch.randn(size, generator=generator).mul(9).to(dtype)
            marked = torch.rand(int(mask.sum()), generator=generator) < 0.5
            expected = torch.zeros(size, dtype=torch.bool).masked_scatter_(mask, marked)

            assert torch.equal(ranking.taken(numbers, mask), numbers[mask])
            assert torch.equal(ranking.places(mask), mask.nonzero().flatten())
            assert torch.equal(ranking.spread(marked, mask), expected)
