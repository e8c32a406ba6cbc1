import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.budgets import erk, floor, global_, uniform

SHAPES = {"a": (30, 20), "b": (10, 30), "c": (10, 10), "d": (1, 5)}


def test_the_others_pay_in_proportion() -> None:
    # uniform keeps 300, 150, 50, 2; the floor takes 53 of the first two, two to one
    assert floor(uniform, num_active=100)(SHAPES, sparsity=0.5) == {"a": 265, "b": 132, "c": 100, "d": 5}


def test_a_tensor_that_falls_to_the_floor_by_paying_stays_on_it() -> None:
    # 60, 30, 10, 1: 101 in all; c and d take 35, of the other 66 b would get 22
    kept = floor(uniform, num_active=30)(SHAPES, sparsity=0.9)

    assert kept == {"a": 36, "b": 30, "c": 30, "d": 5}


def test_what_is_above_the_floor_already_stays_as_it_is() -> None:
    assert floor(erk, num_active=5)(SHAPES, sparsity=0.5) == erk(SHAPES, sparsity=0.5)


def test_a_budget_with_scores_keeps_its_scores() -> None:
    scores = {"a": torch.full((1, 4), 9.0), "b": torch.ones(1, 4)}
    shapes = dict.fromkeys(scores, (1, 4))

    budget = floor(global_, num_active=1)

    assert list(inspect.signature(budget).parameters) == ["shapes", "sparsity", "scores"]
    assert global_(shapes, sparsity=0.5, scores=scores) == {"a": 4, "b": 0}
    assert budget(shapes, sparsity=0.5, scores=scores) == {"a": 3, "b": 1}
    assert list(inspect.signature(floor(erk, num_active=1)).parameters) == ["shapes", "sparsity"]


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    sparsity=st.floats(0, 0.99),
    num_active=st.integers(1, 20),
)
def test_the_floor_holds_and_the_total_stays(sizes: list[int], sparsity: float, num_active: int) -> None:
    shapes = {str(i): (size, 2) for i, size in enumerate(sizes)}
    free = erk(shapes, sparsity=sparsity)
    least = {name: min(num_active, 2 * shape[0]) for name, shape in shapes.items()}
    if sum(least.values()) > sum(free.values()):
        with pytest.raises(ValueError, match=rf"{num_active} in each tensor takes {sum(least.values())};"):
            floor(erk, num_active=num_active)(shapes, sparsity=sparsity)
        return

    kept = floor(erk, num_active=num_active)(shapes, sparsity=sparsity)

    assert sum(kept.values()) == sum(free.values())
    # nobody above the floor gains, but for the rounding of one weight
    assert all(least[name] <= kept[name] <= max(least[name], free[name] + 1) for name in shapes)


def test_a_floor_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="num_active must be 1 or more, got 0"):
        floor(erk, num_active=0)
