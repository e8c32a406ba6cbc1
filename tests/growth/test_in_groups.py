import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gossamer import growth

from .cases import tiles_of


def none_of(size: int) -> Tensor:
    return torch.zeros(size, dtype=torch.bool)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Draw a gradient with many ties, kept entries, closed lines, groups of columns and counts that fit."""
    rows, columns, num_groups = draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.integers(1, 3))
    numbers = st.lists(st.integers(-3, 3), min_size=rows * columns, max_size=rows * columns)
    gradient = torch.tensor(draw(numbers), dtype=torch.float64).view(rows, columns)
    closed_rows = torch.tensor(draw(st.lists(st.booleans(), min_size=rows, max_size=rows)))
    closed_columns = torch.tensor(draw(st.lists(st.booleans(), min_size=columns, max_size=columns)))
    groups = torch.tensor(draw(st.lists(st.integers(0, num_groups - 1), min_size=columns, max_size=columns)))
    is_open = (~closed_rows[:, None] & ~closed_columns).flatten()
    kept = is_open & (torch.tensor(draw(numbers)) > 0)
    absent = (is_open & ~kept).view(rows, columns)
    counts = torch.zeros(rows, num_groups, dtype=torch.int64)
    for row in range(rows):
        for group in range(num_groups):
            counts[row, group] = draw(st.integers(0, int(absent[row, groups == group].sum())))
    return gradient, kept.nonzero().flatten(), closed_rows, closed_columns, groups, counts


def brute_force(
    gradient: Tensor, kept: Tensor, closed_rows: Tensor, closed_columns: Tensor, groups: Tensor, counts: Tensor
) -> list[int]:
    """Sort the absent entries of every group by their gradient, ties by place."""
    columns, taken, found = gradient.shape[1], set(kept.tolist()), []
    for row, group in torch.cartesian_prod(*(torch.arange(size) for size in counts.shape)).view(-1, 2).tolist():
        absent = [
            row * columns + column
            for column in range(columns)
            if groups[column] == group and not closed_columns[column] and row * columns + column not in taken
        ]
        ranked = sorted(absent, key=lambda entry: (-abs(float(gradient.flatten()[entry])), entry))
        found += ranked[: int(counts[row, group])] if not closed_rows[row] else []
    return sorted(found)


@settings(max_examples=150, deadline=None)
@given(problem=problems(), step=st.integers(1, 6))
def test_every_group_grows_its_own_top_k_of_a_full_sort_however_the_tiles_are_cut(
    problem: tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], step: int
) -> None:
    gradient, kept, closed_rows, closed_columns, groups, counts = problem
    before = gradient.clone()

    grown = growth.gradient_in_groups(
        tiles_of(gradient, step), kept, closed_rows, closed_columns, groups=groups, counts=counts
    )

    assert grown.tolist() == brute_force(*problem)
    assert torch.equal(gradient, before)


def test_growth_of_neurons_by_hand() -> None:
    gradient = torch.tensor([[9.0, -4.0, 4.0, 0.0], [0.5, 0.1, -0.2, 0.3]])

    grown = growth.gradient_in_groups(
        tiles_of(gradient),
        torch.tensor([0]),
        none_of(2),
        none_of(4),
        groups=torch.zeros(4, dtype=torch.int64),
        counts=torch.tensor([[1], [2]]),
    )

    # 9 is kept already, of two fours the first; the second neuron gets its two although all of it is smaller
    assert grown.tolist() == [1, 4, 7]


def test_growth_of_pairs_of_inputs_by_hand() -> None:
    gradient = torch.tensor([[1.0, 2.0, 8.0, 9.0]])

    grown = growth.gradient_in_groups(
        tiles_of(gradient),
        torch.tensor([1]),
        none_of(1),
        none_of(4),
        groups=torch.tensor([0, 0, 1, 1]),
        counts=torch.tensor([[1, 1]]),
    )

    assert grown.tolist() == [0, 3]


@pytest.mark.parametrize("asked", [3, 4])
def test_a_group_that_is_asked_for_more_than_is_absent_is_an_error(asked: int) -> None:
    with pytest.raises(ValueError, match=f"cannot grow {asked} weights in a group of which 2 are absent"):
        growth.gradient_in_groups(
            tiles_of(torch.ones(2, 3)),
            torch.tensor([3]),
            none_of(2),
            none_of(3),
            groups=torch.zeros(3, dtype=torch.int64),
            counts=torch.tensor([[0], [asked]]),
        )


@pytest.mark.parametrize("place", [0, 5])
def test_a_nan_anywhere_is_an_error(place: int) -> None:
    gradient = torch.ones(2, 3)
    gradient.view(-1)[place] = float("nan")

    with pytest.raises(ValueError, match="NaN"):
        growth.gradient_in_groups(
            tiles_of(gradient),
            torch.tensor([0]),
            none_of(2),
            none_of(3),
            groups=torch.zeros(3, dtype=torch.int64),
            counts=torch.tensor([[1], [0]]),
        )


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)], ids=str)
def test_a_weight_without_entries_grows_nothing(shape: tuple[int, int]) -> None:
    grown = growth.gradient_in_groups(
        [],
        torch.empty(0, dtype=torch.int64),
        none_of(shape[0]),
        none_of(shape[1]),
        groups=torch.zeros(shape[1], dtype=torch.int64),
        counts=torch.zeros(shape[0], 1, dtype=torch.int64),
    )

    assert grown.tolist() == []
