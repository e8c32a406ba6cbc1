from typing import Any

import pytest
import torch
from torch.optim import SGD

from gossamer.updates import Change, Threshold, by_loss

from .storage import STORAGES, View, dense_of, view_of
from .test_exchange import first_absent

both = pytest.mark.parametrize("storage", STORAGES)


def threshold(value: float, fraction: float = 0.5, **changed: Any) -> Threshold:
    rules: dict[str, Any] = {"grow": first_absent, "tolerance": 0.1, "update_every": 2, "stop_step": 9}
    return Threshold(threshold=value, drop_fraction=fraction, **(rules | changed))


def apply(update: Threshold, weights: list[Any]) -> list[Change]:
    optimizer = SGD([weight.parameter for weight in weights], lr=0.1)
    return update.apply_all(weights, 2, optimizer=optimizer, generator=torch.Generator())


def two(storage: str) -> list[View]:
    first = view_of(torch.tensor([[4.0, -0.5, 0.0, 0.0], [3.0, 2.0, 0.0, 0.0]]), storage, name="first")[1]
    second = view_of(torch.tensor([[0.25, 0.0], [0.0, 0.75]]), storage, name="second")[1]
    return [first, second]


@both
def test_what_is_below_goes_and_survivors_attract_as_many(storage: str) -> None:
    weights, update = two(storage), threshold(0.6)

    # -0.5 and 0.25 go; survivors 3 and 1: 1.5 and 0.5 of two, and of equal remainders the first gets its weight
    assert apply(update, weights) == [Change("first", 1, 2), Change("second", 1, 0)]
    assert dense_of(weights[0]) == [[4.0, 0.0, 0.0, 0.0], [3.0, 2.0, 0.0, 0.0]]
    assert weights[0].indices().tolist() == [0, 1, 2, 4, 5]
    assert weights[1].indices().tolist() == [3]


@both
@pytest.mark.parametrize(
    ("fraction", "after"),
    [
        (0.0, 0.3),  # two of none wanted: too many
        (0.3, 0.3),  # 2 > 1.1 * 1.8
        (0.31, 0.6),  # 0.9 * 1.86 <= 2 <= 1.1 * 1.86
        (0.37, 0.6),  # 2 >= 0.9 * 2.22
        (0.38, 1.2),  # 2 < 0.9 * 2.28
        (1.0, 1.2),
    ],
)
def test_the_threshold_follows_the_number_dropped(storage: str, fraction: float, after: float) -> None:
    update = threshold(0.6, fraction)
    apply(update, two(storage))

    assert update.threshold == pytest.approx(after)


@both
def test_a_threshold_above_all_leaves_the_largest_of_each(storage: str) -> None:
    weights, update = two(storage), threshold(100.0, 1.0, allot=by_loss)
    changes = apply(update, weights)

    assert [(change.num_dropped, change.num_grown) for change in changes] == [(3, 3), (1, 1)]
    assert weights[0].values().tolist() == [4.0, 0.0, 0.0, 0.0]
    assert weights[1].values().tolist() == [0.0, 0.75]
    # fewer than wanted, but nothing more can go
    assert update.threshold == 100.0


def test_the_threshold_stays_a_number_that_can_come_back() -> None:
    zeros = view_of(torch.zeros(2, 3), "masked", mask=torch.ones(2, 3) > 0)[1]
    low, high = threshold(2e-38, 0.0), threshold(3e38, 1.0)
    for _ in range(3):
        apply(low, [zeros])
        apply(high, [view_of(torch.full((1, 4), 3.2e38), "masked")[1]])

    assert low.threshold == torch.finfo(torch.float32).tiny
    assert high.threshold == torch.finfo(torch.float32).max


@both
def test_a_nan_names_its_weight(storage: str) -> None:
    weights = two(storage)
    weights[1].set_values_(torch.tensor([1.0, float("nan")]))

    with pytest.raises(ValueError, match="1 scores are NaN") as caught:
        apply(threshold(0.5), weights)
    assert caught.value.__notes__ == ["while updating second after step 2"]


def test_its_state_is_the_threshold() -> None:
    one, other = threshold(0.5), threshold(0.125)
    other.load_state_dict(one.state_dict())

    assert one.state_dict() == {"threshold": 0.5}
    assert other.threshold == 0.5


def test_it_is_due_at_multiples_of_update_every_before_the_stop() -> None:
    assert [step for step in range(13) if threshold(0.5).due(step)] == [2, 4, 6, 8]


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"value": 0.0}, "threshold must be a number above 0, got 0.0"),
        ({"value": float("nan")}, "threshold must be a number above 0, got nan"),
        ({"fraction": 1.5}, "drop_fraction must lie in"),
        ({"tolerance": -0.1}, "tolerance must lie in"),
        ({"update_every": 0}, "update_every must be 1 or more"),
        ({"stop_step": 0}, "stop_step must be 1 or more"),
    ],
)
def test_settings_out_of_range_are_refused(changed: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        threshold(**({"value": 0.5} | changed))
