import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gossamer import growth

from .cases import CASES, Case

every_rule = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def flags(size: int, *closed: int) -> Tensor:
    """Mark the closed rows or columns."""
    return torch.zeros(size, dtype=torch.bool).index_fill_(0, torch.tensor(closed, dtype=torch.int64), True)


@st.composite
def weights(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, list[int]]:
    """Return kept indices, closed rows, closed columns and the indices that may be grown."""
    rows, columns = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    closed_rows = torch.tensor(draw(st.lists(st.booleans(), min_size=rows, max_size=rows)))
    closed_columns = torch.tensor(draw(st.lists(st.booleans(), min_size=columns, max_size=columns)))
    open_entries = (~closed_rows[:, None] & ~closed_columns).flatten().nonzero().flatten().tolist()
    kept = sorted(draw(st.sets(st.sampled_from(open_entries)))) if open_entries else []
    absent = [entry for entry in open_entries if entry not in kept]
    return torch.tensor(kept, dtype=torch.int64), closed_rows, closed_columns, absent


def test_the_table_holds_every_public_rule() -> None:
    # Those two give values, that one has a count for each group: see test_in_groups.py.
    others = {"fan_in_uniform", "fan_in_uniform_of", "gradient_in_groups"}
    assert sorted(case.name for case in CASES) == sorted({*growth.__all__} - others)


@every_rule
@settings(max_examples=60, deadline=None)
@given(weight=weights(), fraction=st.floats(0, 1), seed=st.integers(0, 5))
def test_grown_entries_are_absent_open_ascending_and_exactly_as_many_as_asked(
    case: Case, weight: tuple[Tensor, Tensor, Tensor, list[int]], fraction: float, seed: int
) -> None:
    kept, closed_rows, closed_columns, absent = weight
    count = round(fraction * len(absent))
    before = [kept.clone(), closed_rows.clone(), closed_columns.clone()]

    grown = case.choose(kept, closed_rows, closed_columns, count, seed)

    assert grown.dtype == torch.int64
    assert grown.shape == (count,)
    assert grown.tolist() == sorted(set(grown.tolist()) & set(absent))
    assert all(torch.equal(now, then) for now, then in zip(weight[:3], before, strict=True))
    assert torch.equal(case.choose(kept, closed_rows, closed_columns, count, seed), grown)


@every_rule
@settings(max_examples=30, deadline=None)
@given(weight=weights())
def test_all_absent_entries_can_be_grown_and_not_one_more(
    case: Case, weight: tuple[Tensor, Tensor, Tensor, list[int]]
) -> None:
    kept, closed_rows, closed_columns, absent = weight

    assert case.choose(kept, closed_rows, closed_columns, len(absent), 0).tolist() == absent
    with pytest.raises(ValueError, match=rf"{len(absent) + 1} .* {len(absent)}"):
        case.choose(kept, closed_rows, closed_columns, len(absent) + 1, 0)


@every_rule
def test_a_weight_of_one_entry_grows_it_or_nothing(case: Case) -> None:
    none = torch.empty(0, dtype=torch.int64)

    assert case.choose(none, flags(1), flags(1), 1, 0).tolist() == [0]
    assert case.choose(torch.tensor([0]), flags(1), flags(1), 0, 0).tolist() == []


@every_rule
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)], ids=str)
def test_a_weight_without_entries_grows_nothing(case: Case, shape: tuple[int, int]) -> None:
    none = torch.empty(0, dtype=torch.int64)

    assert case.choose(none, flags(shape[0]), flags(shape[1]), 0, 0).tolist() == []


@every_rule
def test_a_strided_list_of_kept_entries_counts_as_its_copy(case: Case) -> None:
    strided = torch.arange(0, 20)[::3]

    grown = case.choose(strided, flags(4, 1), flags(6, 2), 5, 3)

    assert torch.equal(grown, case.choose(strided.contiguous(), flags(4, 1), flags(6, 2), 5, 3))


@every_rule
def test_another_seed_grows_other_entries(case: Case) -> None:
    kept = torch.arange(0, 1000, 2)

    grown = [case.choose(kept, flags(50), flags(40), 20, seed).tolist() for seed in (0, 1)]

    assert grown[0] != grown[1]
