from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from gossamer import sampling

_FEW = settings(deadline=None, max_examples=100, derandomize=True)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@_FEW
@given(st.integers(0, 400), st.floats(0, 1), st.integers(0, 2**31))
def test_distinct_draws_exactly_count_ascending_in_range(total: int, part: float, seed: int) -> None:
    count = round(part * total)

    drawn = sampling.distinct(total, count, generator=_generator(seed))

    assert (drawn.dtype, drawn.shape) == (torch.int64, (count,))
    assert drawn.tolist() == sorted(set(drawn.tolist()))
    assert all(0 <= number < total for number in drawn.tolist())


@_FEW
@given(st.integers(0, 300), st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**31))
def test_absent_draws_exactly_count_that_are_not_present(total: int, one: float, other: float, seed: int) -> None:
    present = sampling.distinct(total, round(one * total), generator=_generator(seed + 1))
    count = round(other * (total - present.numel()))

    drawn = sampling.absent(present, total, count, generator=_generator(seed))

    assert (drawn.dtype, drawn.shape) == (torch.int64, (count,))
    assert drawn.tolist() == sorted(set(drawn.tolist()))
    assert not set(drawn.tolist()) & set(present.tolist())
    assert all(0 <= number < total for number in drawn.tolist())


@pytest.mark.parametrize(("total", "count"), [(6, 1), (6, 2), (6, 3), (6, 4), (6, 5)])
def test_every_set_is_equally_likely(total: int, count: int) -> None:
    generator = _generator()
    sets = {chosen: 0 for chosen in combinations(range(total), count)}

    for _ in range(100 * len(sets)):
        sets[tuple(sampling.distinct(total, count, generator=generator).tolist())] += 1

    assert chisquare(list(sets.values())).pvalue > 1e-3


@pytest.mark.parametrize("present", [[], [0], [7], [0, 1, 7], [1, 4, 5], [3, 4]])
def test_every_set_of_absent_ones_is_equally_likely(present: list[int]) -> None:
    generator = _generator(1)
    sets = {chosen: 0 for chosen in combinations(sorted(set(range(8)) - set(present)), 2)}
    given_present = torch.tensor(present, dtype=torch.int64)

    for _ in range(80 * len(sets)):
        sets[tuple(sampling.absent(given_present, 8, 2, generator=generator).tolist())] += 1

    assert chisquare(list(sets.values())).pvalue > 1e-3


# A generator of 32 bits taken modulo the range would favour the low entries of the second and third.
@pytest.mark.parametrize("total", [10**6, 2_500_000_000, 3 * 2**30, 2**33 + 5, 2**62])
def test_a_long_range_is_covered_evenly(total: int) -> None:
    drawn = sampling.distinct(total, 100_000, generator=_generator())

    assert drawn.unique().numel() == 100_000
    assert chisquare((drawn // (total // 20 + 1)).bincount(minlength=20).numpy()).pvalue > 1e-3


# Just below a half there are more rounds than one; above it the complement is drawn.
@pytest.mark.parametrize("count", [499_999, 500_000, 500_001, 999_999])
def test_a_large_share_of_a_range_is_exact(count: int) -> None:
    drawn = sampling.distinct(1_000_000, count, generator=_generator())

    assert drawn.unique().numel() == drawn.numel() == count
    assert abs(drawn.double().mean().item() - 499_999.5) < 5 * 1e6 / count**0.5


def test_absent_reaches_beyond_32_bits() -> None:
    total = 2**40
    present = torch.arange(total - 1000, total, 2)

    drawn = sampling.absent(present, total, 1000, generator=_generator())

    assert drawn.unique().numel() == 1000
    assert int(drawn.max()) > 2**39
    assert not torch.isin(drawn, present).any()


def test_the_last_absent_ones_are_found() -> None:
    present = torch.tensor([0, 2, 3, 5])

    assert sampling.absent(present, 7, 3, generator=_generator()).tolist() == [1, 4, 6]


def test_nothing_is_drawn_from_nothing() -> None:
    empty = torch.empty(0, dtype=torch.int64)

    assert sampling.distinct(0, 0, generator=_generator()).tolist() == []
    assert sampling.distinct(2**40, 0, generator=_generator()).tolist() == []
    assert sampling.absent(empty, 0, 0, generator=_generator()).tolist() == []
    assert sampling.absent(torch.arange(5), 5, 0, generator=_generator()).tolist() == []


@pytest.mark.parametrize(("total", "count"), [(3, 4), (0, 1), (3, -1), (-3, -3)])
def test_a_count_that_does_not_fit_is_refused_by_value(total: int, count: int) -> None:
    with pytest.raises(ValueError, match=f"cannot draw {count} different entries out of {total}"):
        sampling.distinct(total, count, generator=_generator())


def test_more_than_are_absent_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot draw 3 different entries out of 2"):
        sampling.absent(torch.tensor([0, 1, 4]), 5, 3, generator=_generator())


def test_the_seed_decides_and_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()

    first, again, other = (sampling.distinct(10**6, 100, generator=_generator(seed)).tolist() for seed in (0, 0, 1))

    assert first == again != other
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_present_is_left_untouched() -> None:
    present = torch.tensor([1, 3])

    sampling.absent(present, 5, 2, generator=_generator())

    assert present.tolist() == [1, 3]


@pytest.mark.parametrize(("total", "count"), [(0, 0), (1, 1), (5, 0), (5, 2), (5, 5), (300, 40)])
def test_draws_in_rows_are_different_and_ascend(total: int, count: int) -> None:
    drawn = sampling.distinct_in_rows(50, total, count, generator=torch.Generator().manual_seed(0))

    assert drawn.shape == (50, count)
    assert bool((drawn.diff(dim=1) > 0).all())
    assert bool(((drawn >= 0) & (drawn < total)).all())


def test_draws_in_rows_make_every_set_equally_likely() -> None:
    drawn = sampling.distinct_in_rows(12_000, 4, 2, generator=torch.Generator().manual_seed(0))
    counts = (drawn[:, 0] * 4 + drawn[:, 1]).bincount(minlength=16)

    assert [int(count) for count in counts if count] == pytest.approx([2000] * 6, abs=150)


def test_more_in_a_row_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot draw 6 different entries out of 5"):
        sampling.distinct_in_rows(3, 5, 6, generator=torch.Generator())


@pytest.mark.parametrize(("total", "count"), [(1, 1), (7, 7), (1000, 1000), (5000, 4000)])
def test_a_draw_above_half_of_the_range_is_exact_too(total: int, count: int) -> None:
    starts, offsets, shift = sampling.draw(total, count, generator=_generator())
    bucket = torch.repeat_interleave(torch.arange(len(starts) - 1), torch.from_numpy(starts).diff())
    numbers = (bucket << shift) + torch.from_numpy(offsets.astype("int64"))

    assert numbers.numel() == count == starts[-1]
    assert bool((numbers.diff() > 0).all())
    assert 0 <= int(numbers[0]) <= int(numbers[-1]) < total
