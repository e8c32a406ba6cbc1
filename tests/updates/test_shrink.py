from typing import Any

import pytest
import torch
from torch.optim import SGD

from gossamer import budgets, criteria, schedules
from gossamer.updates import Change, Shrink

from .storage import STORAGES, View, dense_of, momentum_of, view_of

both = pytest.mark.parametrize("storage", STORAGES)


def shrink(sparsity: float = 0.5, **changed: Any) -> Shrink:
    settings: dict[str, Any] = {"start_step": 0, "stop_step": 4, "update_every": 1, "budget": budgets.uniform}
    return Shrink(drop=criteria.magnitude, sparsity=schedules.constant(sparsity), **(settings | changed))


def apply(update: Shrink, weights: list[View], step: int = 1, optimizer: SGD | None = None) -> list[Change]:
    optimizer = SGD([weight.parameter for weight in weights], lr=0.1) if optimizer is None else optimizer
    rest: dict[str, Any] = {"optimizer": optimizer, "generator": torch.Generator()}
    return [update.apply(weight, list(weights), step, **rest) for weight in weights]


@both
def test_the_largest_stay_as_they_were_with_their_momentum(storage: str) -> None:
    _, weight = view_of(torch.tensor([[4.0, -1.0], [-3.0, 2.0]]), storage)
    optimizer = SGD([weight.parameter], lr=0.0, momentum=0.9)
    weight.parameter.grad = torch.arange(4.0).view_as(weight.parameter)
    optimizer.step()

    changes = apply(shrink(), [weight], optimizer=optimizer)

    assert changes == [Change("w", num_dropped=2, num_grown=0)]
    assert dense_of(weight) == [[4.0, 0.0], [-3.0, 0.0]]
    assert weight.indices().tolist() == [0, 2]
    assert momentum_of(weight, optimizer).tolist() == [0.0, 2.0]


@both
def test_nothing_comes_back_where_the_target_is_above_what_is_left(storage: str) -> None:
    _, weight = view_of(torch.tensor([[4.0, 0.0], [0.0, 0.0]]), storage)

    assert apply(shrink(0.25), [weight]) == [Change("w", 0, 0)]
    assert weight.indices().tolist() == [0]


@both
def test_equal_values_are_kept_in_exact_number(storage: str) -> None:
    _, weight = view_of(torch.ones(3, 5), storage)

    apply(shrink(0.6), [weight])

    assert weight.indices().tolist() == [0, 1, 2, 3, 4, 5]


@both
def test_one_weight_stays_in_a_tensor_of_one(storage: str) -> None:
    _, weight = view_of(torch.tensor([[2.0]]), storage)

    assert apply(shrink(0.99), [weight]) == [Change("w", 0, 0)]
    assert weight.num_active == 1


@both
def test_the_budget_is_split_over_all_weights(storage: str) -> None:
    wide = view_of(torch.randn(10, 30, generator=torch.Generator().manual_seed(0)), storage, name="wide")[1]
    small = view_of(torch.randn(10, 10, generator=torch.Generator().manual_seed(1)), storage, name="small")[1]

    apply(shrink(0.85, budget=budgets.er), [wide, small])

    assert (wide.num_active, small.num_active) == (40, 20)


@both
def test_a_sparsity_of_zero_removes_nothing(storage: str) -> None:
    _, weight = view_of(torch.tensor([[4.0, 0.0], [1.0, 2.0]]), storage)

    assert apply(shrink(0.0), [weight]) == [Change("w", 0, 0)]


def test_it_is_due_from_the_start_at_each_interval_and_at_the_stop() -> None:
    update = shrink(start_step=3, stop_step=10, update_every=3)

    assert [step for step in range(15) if update.due(step)] == [3, 6, 9, 10]


def test_a_start_at_zero_is_first_due_after_one_interval() -> None:
    update = shrink(start_step=0, stop_step=7, update_every=3)

    assert [step for step in range(15) if update.due(step)] == [3, 6, 7]


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"update_every": 0}, "update_every must be 1 or more, got 0"),
        ({"sparsity": 1.0}, r"sparsity must lie in \[0, 1\), got 1.0"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(changed: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        shrink(**changed)
