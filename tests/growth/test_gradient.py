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
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    """Draw a gradient with many ties, kept entries, closed lines and a count that fits."""
    rows, columns = draw(st.integers(1, 7)), draw(st.integers(1, 5))
    numbers = st.lists(st.integers(-3, 3), min_size=rows * columns, max_size=rows * columns)
    gradient = torch.tensor(draw(numbers), dtype=torch.float64).view(rows, columns)
    closed_rows = torch.tensor(draw(st.lists(st.booleans(), min_size=rows, max_size=rows)))
    closed_columns = torch.tensor(draw(st.lists(st.booleans(), min_size=columns, max_size=columns)))
    is_open = (~closed_rows[:, None] & ~closed_columns).flatten()
    kept = is_open & (torch.tensor(draw(numbers)) > 0)
    count = draw(st.integers(0, int((is_open & ~kept).sum())))
    return gradient, kept.nonzero().flatten(), closed_rows, closed_columns, count


def brute_force(gradient: Tensor, kept: Tensor, closed_rows: Tensor, closed_columns: Tensor, count: int) -> list[int]:
    """Sort every absent entry by its gradient, ties by place."""
    columns = gradient.shape[1]
    absent = [
        entry
        for entry in range(gradient.numel())
        if entry not in kept.tolist() and not closed_rows[entry // columns] and not closed_columns[entry % columns]
    ]
    ranked = sorted(absent, key=lambda entry: (-abs(float(gradient.flatten()[entry])), entry))
    return sorted(ranked[:count])


@settings(max_examples=150, deadline=None)
@given(problem=problems(), step=st.integers(1, 7))
def test_growth_is_the_top_k_of_a_full_sort_however_the_tiles_are_cut(
    problem: tuple[Tensor, Tensor, Tensor, Tensor, int], step: int
) -> None:
    gradient, kept, closed_rows, closed_columns, count = problem

    grown = growth.gradient(tiles_of(gradient, step), kept, closed_rows, closed_columns, count=count)

    assert grown.tolist() == brute_force(*problem)


@pytest.mark.parametrize("step", [1, 3, 64, 100])
def test_growth_is_the_exact_top_k_of_a_float64_gradient(step: int) -> None:
    gradient = torch.randn(100, 80, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kept = torch.arange(0, 8000, 7)

    grown = growth.gradient(tiles_of(gradient, step), kept, none_of(100), none_of(80), count=500)

    scores = gradient.abs().flatten().index_fill(0, kept, -1.0)
    assert grown.tolist() == scores.topk(500).indices.sort().values.tolist()


def test_growth_by_hand() -> None:
    gradient = torch.tensor([[0.0, -4.0, 4.0], [4.0, -9.0, 1.0]])

    grown = growth.gradient(tiles_of(gradient), torch.tensor([4]), none_of(2), none_of(3), count=2)

    # 9 is kept already; of three fours the first two
    assert grown.tolist() == [1, 2]


def test_a_gradient_of_zero_everywhere_grows_the_first_places() -> None:
    grown = growth.gradient(tiles_of(torch.zeros(3, 3), 2), torch.tensor([1]), none_of(3), none_of(3), count=3)

    assert grown.tolist() == [0, 2, 3]


def test_an_infinite_gradient_is_the_largest() -> None:
    gradient = torch.tensor([[1.0, float("-inf"), 2.0]])

    grown = growth.gradient(tiles_of(gradient), torch.tensor([0]), none_of(1), none_of(3), count=1)

    assert grown.tolist() == [1]


@pytest.mark.parametrize("place", [0, 1, 5])
def test_a_nan_anywhere_is_an_error(place: int) -> None:
    gradient = torch.ones(2, 3)
    gradient.view(-1)[place] = float("nan")

    with pytest.raises(ValueError, match="NaN"):
        growth.gradient(tiles_of(gradient), torch.tensor([0]), none_of(2), none_of(3), count=1)


def test_the_gradient_is_left_as_it_is() -> None:
    gradient = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    before = gradient.clone()

    growth.gradient(
        tiles_of(gradient, 4),
        torch.tensor([3, 7]),
        ~none_of(4).index_fill(0, torch.tensor([1, 2, 3]), True),
        none_of(5),
        count=1,
    )

    assert torch.equal(gradient, before)
