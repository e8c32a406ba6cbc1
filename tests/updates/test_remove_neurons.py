from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD

from gossamer.updates import Change, RemoveNeurons
from gossamer.weights import MaskedWeight

from .storage import STORAGES, View, dense_of, view_of

both = pytest.mark.parametrize("storage", STORAGES)
# Strength of the three hidden neurons: 3, 1, 5.
HIDDEN = torch.tensor([[1.0, -2.0], [1.0, 0.0], [0.0, 5.0]])
OUTPUT = torch.tensor([[1.0, 2.0, 3.0], [0.0, 4.0, 0.0]])


def removal(fraction: float = 0.34, readers: dict[str, str | None] | None = None, **changed: Any) -> RemoveNeurons:
    settings: dict[str, Any] = {"start_step": 1, "stop_step": 10, "update_every": 1}
    readers = {"hidden": "output"} if readers is None else readers
    return RemoveNeurons(neuron_fraction=fraction, readers=readers, **(settings | changed))


def pair(storage: str) -> dict[str, View]:
    return {
        "hidden": view_of(HIDDEN, storage, name="hidden")[1],
        "output": view_of(OUTPUT, storage, name="output")[1],
    }


def apply(update: RemoveNeurons, weights: list[View]) -> list[Change]:
    optimizer = SGD([weight.parameter for weight in weights], lr=0.1)
    rest: dict[str, Any] = {"optimizer": optimizer, "generator": torch.Generator()}
    return [update.apply(weight, list(weights), 1, **rest) for weight in weights]


@both
def test_the_weakest_neuron_loses_what_comes_in_and_what_goes_out(storage: str) -> None:
    weights = pair(storage)

    changes = apply(removal(), list(weights.values()))

    assert changes == [Change("hidden", 1, 0), Change("output", 2, 0)]
    assert dense_of(weights["hidden"]) == [[1.0, -2.0], [0.0, 0.0], [0.0, 5.0]]
    assert dense_of(weights["output"]) == [[1.0, 0.0, 3.0], [0.0, 0.0, 0.0]]
    assert weights["hidden"].closed_rows.tolist() == [False, True, False]
    assert weights["output"].closed_columns.tolist() == [False, True, False]
    assert not weights["output"].closed_rows.any()
    assert not weights["hidden"].closed_columns.any()


@both
def test_the_fraction_is_of_the_neurons_still_open(storage: str) -> None:
    weights = pair(storage)
    update = removal(0.5)

    for open_neurons in (2, 1, 1):
        apply(update, list(weights.values()))

        # floor(0.5 * 3) = 1, floor(0.5 * 2) = 1, and the last one stays
        assert int((~weights["hidden"].closed_rows).sum()) == open_neurons
    assert dense_of(weights["hidden"]) == [[0.0, 0.0], [0.0, 0.0], [0.0, 5.0]]


@both
def test_one_neuron_stays_whatever_the_fraction(storage: str) -> None:
    weights = pair(storage)

    apply(removal(1.0), list(weights.values()))

    assert weights["hidden"].closed_rows.tolist() == [True, True, False]


@both
def test_equal_neurons_go_in_exact_number_the_last_first(storage: str) -> None:
    _, weight = view_of(torch.ones(10, 4), storage, name="hidden")

    apply(removal(0.29), [weight, view_of(torch.ones(2, 10), storage, name="output")[1]])

    assert weight.closed_rows.tolist() == [False] * 8 + [True] * 2


@both
def test_a_reader_listed_before_its_source_loses_its_weights_in_the_same_update(storage: str) -> None:
    weights = pair(storage)

    changes = apply(removal(), [weights["output"], weights["hidden"]])

    assert changes == [Change("output", 2, 0), Change("hidden", 1, 0)]
    assert dense_of(weights["output"]) == [[1.0, 0.0, 3.0], [0.0, 0.0, 0.0]]


@both
def test_where_the_reader_is_unknown_only_incoming_weights_go(storage: str) -> None:
    weights = pair(storage)

    apply(removal(readers={"hidden": None}), list(weights.values()))

    assert dense_of(weights["hidden"])[1] == [0.0, 0.0]
    assert dense_of(weights["output"]) == OUTPUT.tolist()


def test_a_convolution_loses_whole_filters() -> None:
    filters = torch.tensor([2.0, 1.0, 3.0]).view(3, 1, 1, 1).repeat(1, 2, 2, 2)
    masked = MaskedWeight("hidden", nn.Parameter(filters))

    apply(removal(readers={"hidden": None}), [masked])

    assert masked.mask.flatten(1).all(1).tolist() == [True, False, True]
    assert not masked.mask[1].any()


def test_it_is_due_from_the_start_at_each_interval_before_the_stop() -> None:
    update = removal(start_step=4, stop_step=12, update_every=4)

    assert [step for step in range(20) if update.due(step)] == [4, 8]


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"update_every": 0}, "update_every must be 1 or more, got 0"),
        ({"fraction": 1.1}, r"neuron_fraction must lie in \[0, 1\], got 1.1"),
        ({"fraction": -0.1}, r"neuron_fraction must lie in \[0, 1\], got -0.1"),
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(changed: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        removal(**changed)
