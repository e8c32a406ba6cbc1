from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD

from gossamer import counts, criteria, schedules
from gossamer.updates import Change, ExchangeFanIn, ExchangeInGroups

from .storage import STORAGES, View, dense_of, momentum_of, view_of

both = pytest.mark.parametrize("storage", STORAGES)
STEPS: dict[str, Any] = {"update_every": 1, "stop_step": 10}


def fan_in(fraction: float, num_weights: int, salient: float = 0.0, **changed: Any) -> ExchangeFanIn:
    rest: dict[str, Any] = {"keeps_neurons": frozenset(), "salient_fraction": salient, **STEPS} | changed
    return ExchangeFanIn(
        drop=criteria.magnitude,
        drop_fraction=schedules.constant(fraction),
        num_weights={"w": num_weights},
        **rest,
    )


def see(layer: nn.Module, weight: View, gradient: Tensor) -> None:
    """Let the weight record this dense gradient."""
    weight.attach()
    weight.watch()
    (layer(torch.eye(gradient.shape[1])) * gradient.t()).sum().backward()


def apply(update: Any, layer: nn.Module, weight: View, gradient: Tensor, optimizer: SGD | None = None) -> Change:
    see(layer, weight, gradient)
    optimizer = optimizer or SGD([weight.parameter], lr=0.0)
    change: Change = update.apply(weight, [weight], 1, optimizer=optimizer, generator=torch.Generator())
    weight.detach()
    return change


VALUES = torch.tensor([[4.0, 3.0, 0.0, 0.0], [0.1, 0.2, 0.0, 0.0], [5.0, 6.0, 0.0, 0.0]])
GRADIENT = torch.tensor([[0.0, 0.0, 9.0, 1.0], [0.0, 0.0, 0.5, -0.6], [0.0, 0.0, 1.0, -8.0]])


@both
def test_the_smallest_of_the_layer_go_and_each_neuron_grows_what_it_lost(storage: str) -> None:
    layer, weight = view_of(VALUES, storage)

    change = apply(fan_in(0.34, 6), layer, weight, GRADIENT)

    # two of six: both of the second neuron, whatever large gradients the others have
    assert change == Change("w", 2, 2)
    assert weight.indices().tolist() == [0, 1, 6, 7, 8, 9]
    assert dense_of(weight)[1] == [0.0, 0.0, 0.0, 0.0]


@both
def test_a_neuron_without_salient_weights_goes_and_the_others_get_its_weights(storage: str) -> None:
    layer, weight = view_of(VALUES, storage)

    change = apply(fan_in(0.34, 6, salient=0.5), layer, weight, GRADIENT)

    # kept: two of the first, two of the third; the two largest gradients are theirs too, so they have 3, 0 and 3
    assert weight.closed_rows.tolist() == [False, True, False]
    assert weight.indices().tolist() == [0, 1, 2, 8, 9, 11]
    assert change == Change("w", 2, 2)


@both
def test_a_neuron_that_keeps_just_enough_salient_weights_stays(storage: str) -> None:
    layer, weight = view_of(VALUES, storage)
    gradient = GRADIENT.clone()
    gradient[1, 3] = 20.0

    apply(fan_in(0.34, 6, salient=0.5), layer, weight, gradient)

    # one salient weight of two: not fewer than half
    assert not weight.closed_rows.any()
    assert weight.indices().tolist() == [0, 1, 6, 7, 8, 9]


@both
def test_neurons_of_an_output_layer_stay(storage: str) -> None:
    layer, weight = view_of(VALUES, storage)

    apply(fan_in(0.34, 6, salient=0.5, keeps_neurons=frozenset({"w"})), layer, weight, GRADIENT)

    assert not weight.closed_rows.any()


@both
def test_as_many_neurons_stay_as_the_weights_need_to_have_place(storage: str) -> None:
    layer, weight = view_of(VALUES, storage)
    gradient = torch.tensor([[9.0, 9.0, 9.0, 9.0], [5.0, 0.0, 0.0, 0.0], [6.0, 0.0, 0.0, 0.0]])

    apply(fan_in(1.0, 6, salient=1.0), layer, weight, gradient)

    # Salient are 4, 1 and 1 of two; six weights do not fit at one neuron of four inputs, of equals the first stays.
    assert weight.closed_rows.tolist() == [False, False, True]
    assert weight.indices().tolist() == [0, 1, 2, 4, 5, 6]


@both
def test_what_the_division_leaves_over_waits(storage: str) -> None:
    values = torch.eye(5, 8) + torch.eye(5, 8).roll(1, 1)
    values[0] *= 0.1
    layer, weight = view_of(values, storage)
    gradient = torch.zeros(5, 8)
    gradient[1:] = 1.0

    apply(fan_in(0.2, 10, salient=0.5), layer, weight, gradient)

    # Ten weights, four neurons: two each; with another one gone they will have three.
    assert weight.num_active == 8
    weight.closed_rows[1] = True
    layer.zero_grad()
    apply(fan_in(0.0, 10), layer, weight, gradient)
    assert weight.num_active == 9
    assert (weight.indices() // 8).bincount().tolist() == [0, 0, 3, 3, 3]


@both
def test_a_weight_dropped_and_grown_again_keeps_value_and_state(storage: str) -> None:
    layer, weight = view_of(VALUES, storage)
    optimizer = SGD([weight.parameter], lr=0.0, momentum=0.9)
    weight.parameter.grad = torch.full_like(weight.parameter, 5.0)
    optimizer.step()
    weight.parameter.grad = None
    gradient = GRADIENT.clone()
    gradient[1, 0] = 3.0

    change = apply(fan_in(0.34, 6), layer, weight, gradient, optimizer)

    assert change == Change("w", 1, 1)
    assert weight.indices().tolist() == [0, 1, 4, 7, 8, 9]
    assert dense_of(weight)[1] == pytest.approx([0.1, 0.0, 0.0, 0.0])
    assert momentum_of(weight, optimizer).tolist() == [5.0, 5.0, 5.0, 0.0, 5.0, 5.0]


@both
def test_groups_of_inputs_grow_what_they_lost(storage: str) -> None:
    layer, weight = view_of(torch.tensor([[0.1, 0.0, 5.0, 0.0], [4.0, 0.0, 3.0, 0.0]]), storage)
    update = ExchangeInGroups(
        drop=criteria.magnitude,
        groups=lambda shape: torch.tensor([0, 0, 1, 1]),
        drop_fraction=schedules.constant(0.25),
        **STEPS,
    )

    change = apply(update, layer, weight, torch.tensor([[0.0, 0.1, 0.0, 9.0], [0.0, 8.0, 0.0, 7.0]]))

    # 0.1 goes; its pair has but one other place, however small the gradient is there
    assert change == Change("w", 1, 1)
    assert weight.indices().tolist() == [1, 2, 4, 6]


@both
def test_full_weights_and_those_left_out_stay(storage: str) -> None:
    layer, weight = view_of(VALUES, storage)
    update = ExchangeInGroups(
        drop=criteria.magnitude, groups=lambda shape: None, drop_fraction=schedules.constant(0.5), **STEPS
    )
    full_layer, full = view_of(torch.ones(2, 3), storage)

    assert apply(update, layer, weight, GRADIENT) == Change("w", 0, 0)
    assert apply(fan_in(0.5, 6, salient=1.0), full_layer, full, torch.ones(2, 3)) == Change("w", 0, 0)
    assert weight.indices().tolist() == [0, 1, 4, 5, 8, 9]


@both
def test_a_weight_that_lost_everything_grows_from_nothing(storage: str) -> None:
    layer, weight = view_of(torch.zeros(2, 3), storage)

    assert apply(fan_in(0.5, 2), layer, weight, torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])) == Change("w", 0, 2)
    assert weight.indices().tolist() == [2, 3]


@both
def test_a_nan_in_the_gradient_is_an_error(storage: str) -> None:
    layer, weight = view_of(VALUES, storage)

    with pytest.raises(ValueError, match="the gradient holds NaN"):
        apply(fan_in(0.5, 6), layer, weight, GRADIENT * float("nan"))


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"update_every": 0}, "update_every must be 1 or more, got 0"),
        ({"stop_step": 0}, "stop_step must be 1 or more, got 0"),
        ({"salient_fraction": 1.5}, r"salient_fraction must lie in \[0, 1\], got 1.5"),
    ],
)
def test_settings_out_of_range_are_refused(changed: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        fan_in(0.3, 6, **changed)


def test_it_is_due_at_multiples_of_update_every_before_the_stop() -> None:
    update = fan_in(0.3, 6, update_every=3, stop_step=9)

    assert [step for step in range(13) if update.due(step)] == [3, 6]
    assert update.uses_gradient


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, int, float, float]:
    """Draw a mask of equal fan-in, values and a gradient with many ties, the total, and both fractions."""
    rows, columns = draw(st.integers(1, 6)), draw(st.integers(2, 6))
    fan_in = draw(st.integers(1, columns - 1))
    mask = torch.zeros(rows, columns, dtype=torch.bool)
    for row in range(rows):
        mask[row, draw(st.permutations(range(columns)))[:fan_in]] = True
    numbers = st.lists(st.integers(-4, 4), min_size=rows * columns, max_size=rows * columns)
    values = torch.tensor(draw(numbers), dtype=torch.float32).view(rows, columns) + 0.5
    gradient = torch.tensor(draw(numbers), dtype=torch.float32).view(rows, columns)
    fractions = draw(st.floats(0, 1)), draw(st.floats(0, 1))
    return mask, values * mask, gradient, rows * fan_in, *fractions


def by_sorting(
    mask: Tensor, values: Tensor, gradient: Tensor, total: int, drop_fraction: float, salient_fraction: float
) -> list[list[int]]:
    """Return the inputs of each neuron after an update, from lists and full sorts."""
    rows, columns = mask.shape
    active = [(row, column) for row in range(rows) for column in range(columns) if mask[row, column]]

    def size(place: tuple[int, int]) -> float:
        return -abs(float(values[place]))

    def slope(place: tuple[int, int]) -> float:
        return -abs(float(gradient[place]))

    num_dropped = counts.num_dropped(len(active), drop_fraction)
    kept = sorted(active, key=lambda place: (size(place), place))[: len(active) - num_dropped]
    absent = [(row, column) for row in range(rows) for column in range(columns) if (row, column) not in kept]
    salient = kept + sorted(absent, key=lambda place: (slope(place), place))[:num_dropped]
    number = [sum(row == place[0] for place in salient) for row in range(rows)]
    live = [row for row in range(rows) if number[row] >= salient_fraction * (total // rows) - 1e-9]
    least = -(-total // columns)
    if len(live) < least:
        live = sorted(sorted(range(rows), key=lambda row: (-number[row], row))[:least])
    fan_in = min(columns, total // len(live))
    inputs = []
    for row in range(rows):
        mine = [place for place in kept if place[0] == row]
        others = sorted((place for place in absent if place[0] == row), key=lambda place: (slope(place), place))
        inputs.append(sorted(column for _, column in mine + others[: fan_in - len(mine)]) if row in live else [])
    return inputs


@both
@settings(max_examples=60, deadline=None)
@given(problem=problems())
def test_an_update_is_what_lists_and_full_sorts_say(
    storage: str, problem: tuple[Tensor, Tensor, Tensor, int, float, float]
) -> None:
    mask, values, gradient, total, drop_fraction, salient_fraction = problem
    layer, weight = view_of(values, storage, mask=mask)

    apply(fan_in(drop_fraction, total, salient=salient_fraction), layer, weight, gradient)

    columns = mask.shape[1]
    found: list[list[int]] = [[] for _ in mask]
    for place in weight.indices().tolist():
        found[place // columns].append(place % columns)
    assert found == by_sorting(*problem)
