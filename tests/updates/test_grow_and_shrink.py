from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from gossamer import criteria, growth
from gossamer.neurons import find_hidden
from gossamer.neurons.grow import add_
from gossamer.updates import Change, GrowNeurons, GrowWeights, RemoveDeadNeurons, ShrinkTo
from gossamer.weights import MaskedWeight, Weight, prunable

from .storage import STORAGES, View, dense_of, linear_of, view_of

both = pytest.mark.parametrize("storage", STORAGES)
STEPS: dict[str, Any] = {"start_step": 2, "stop_step": 9, "update_every": 3}
HIDDEN = torch.tensor([[1.0, -2.0], [0.0, 0.0], [0.0, 5.0]])
OUTPUT = torch.tensor([[1.0, 2.0, 0.0], [3.0, 4.0, 0.0]])


def at_random(weight: Weight, kept: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return growth.random(kept, weight.closed_rows, weight.closed_columns, count=count, generator=generator)


def apply(update: Any, weights: list[View], step: int = 2) -> list[Change]:
    optimizer = SGD([weight.parameter for weight in weights], lr=0.1)
    rest: dict[str, Any] = {"optimizer": optimizer, "generator": torch.Generator().manual_seed(0)}
    return [update.apply(weight, list(weights), step, **rest) for weight in weights]


def network() -> tuple[nn.Sequential, list[View]]:
    model = nn.Sequential(linear_of(HIDDEN), nn.ReLU(), linear_of(OUTPUT))
    weights = prunable(model)
    for weight in weights:
        assert isinstance(weight, MaskedWeight)
        weight.set_mask_(weight.parameter.detach() != 0)
    return model, weights


@both
def test_weights_grow_by_a_fraction_of_the_active_ones_at_zero(storage: str) -> None:
    _, weight = view_of(torch.tensor([[1.0, 2.0, 0.0, 0.0], [3.0, 4.0, 5.0, 0.0]]), storage)

    changes = apply(GrowWeights(grow=at_random, grow_fraction=0.5, **STEPS), [weight])

    # Half of five, rounded down.
    assert changes == [Change("w", 0, 2)]
    assert weight.num_active == 7
    assert sorted(weight.values().tolist()) == [0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


@both
@pytest.mark.parametrize(("fraction", "grown"), [(0.0, 0), (0.1, 0), (1.0, 3)])
def test_no_more_grow_than_there_is_room(storage: str, fraction: float, grown: int) -> None:
    _, weight = view_of(torch.tensor([[1.0, 2.0, 0.0, 0.0], [3.0, 4.0, 5.0, 0.0]]), storage)

    assert apply(GrowWeights(grow=at_random, grow_fraction=fraction, **STEPS), [weight]) == [Change("w", 0, grown)]


@both
def test_a_surplus_goes_in_equal_parts_the_smallest_first(storage: str) -> None:
    _, weight = view_of(torch.tensor([[7.0, -1.0, 3.0], [2.0, 6.0, -5.0], [4.0, 8.0, 9.0]]), storage)
    update = ShrinkTo(drop=criteria.magnitude, num_active={"w": 2}, **STEPS)
    counts = []
    for step in range(1, 10):
        if update.due(step):
            counts.append((step, apply(update, [weight], step)[0].num_dropped))

    # Seven go at steps 2, 5, 8 and 9.
    assert counts == [(2, 2), (5, 2), (8, 2), (9, 1)]
    assert sorted(weight.values().tolist()) == [8.0, 9.0]


@both
def test_a_weight_with_no_more_than_its_count_stays(storage: str) -> None:
    _, weight = view_of(torch.tensor([[7.0, 0.0]]), storage)

    assert apply(ShrinkTo(drop=criteria.magnitude, num_active={"w": 1}, **STEPS), [weight], 9) == [Change("w", 0, 0)]


def test_the_dead_leave_and_their_weights_are_counted() -> None:
    model, weights = network()
    update = RemoveDeadNeurons(hidden=find_hidden(model, weights), **STEPS)

    changes = apply(update, weights)

    # Neuron 1 passes on relu(0); nothing reads neuron 2, with its one weight.
    assert changes == [Change("0.weight", 3, 0), Change("2.weight", 0, 0)]
    assert dense_of(weights[0]) == [[1.0, -2.0]]
    assert dense_of(weights[1]) == [[1.0], [3.0]]


def test_neurons_grow_by_a_fraction_of_the_layer() -> None:
    model, weights = network()

    def add(hidden: Any, number: int, generator: torch.Generator, optimizer: Any) -> None:
        add_(hidden, number, num_inputs=2, num_outputs=1, generator=generator, optimizer=optimizer)

    update = GrowNeurons(add=add, neuron_fraction=0.7, hidden=find_hidden(model, weights), **STEPS)

    # floor(0.7 * 3) = 2 neurons with three weights each
    assert apply(update, weights) == [Change("0.weight", 0, 6), Change("2.weight", 0, 0)]
    assert [weight.shape for weight in weights] == [(5, 2), (2, 5)]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: GrowWeights(grow=at_random, grow_fraction=1.5, **STEPS), "grow_fraction must lie"),
        (lambda: GrowNeurons(add=print, neuron_fraction=-1, hidden=[], **STEPS), "neuron_fraction must lie"),
        (lambda: RemoveDeadNeurons(hidden=[], **{**STEPS, "update_every": 0}), "update_every must be 1"),
        (lambda: ShrinkTo(drop=criteria.magnitude, num_active={}, **{**STEPS, "stop_step": 1}), "start_step is 2"),
    ],
    ids=["weights", "neurons", "dead", "shrink"],
)
def test_settings_out_of_range_are_refused(make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()
