import math

import pytest
import torch
from torch import nn
from torch.optim import SGD

from gossamer import recipes, topology
from gossamer.nn import SparseLinear
from gossamer.weights import MaskedWeight

from .network import seeded


def layer_of(values: list[float], columns: int) -> SparseLinear:
    """Return a layer of two outputs whose first entries have these values, all in a row."""
    places = topology.from_linear(torch.arange(len(values)), (2, columns))
    return SparseLinear.from_topology(places, torch.tensor(values))


def update_once(layer: nn.Module, drop_fraction: float = 0.3, sparsity: float | None = None) -> list[float]:
    """Apply one SET update to values that the optimizer leaves alone; return the values after it."""
    optimizer = SGD(layer.parameters(), lr=0.0, momentum=0.9)
    sparsifier = recipes.set_(
        layer,
        optimizer,
        update_every=1,
        stop_step=5,
        generator=seeded(),
        sparsity=sparsity,
        drop_fraction=drop_fraction,
    )
    layer(torch.ones(1, sparsifier.weights[0].shape[1])).sum().backward()
    optimizer.step()
    sparsifier.step()
    values: list[float] = sparsifier.weights[0].values().tolist()
    return values


def test_the_fraction_goes_of_the_positive_and_of_the_negative_weights_separately() -> None:
    negative, positive = [-(2.0**-power) for power in range(10, 3, -1)], [float(value) for value in range(101, 111)]
    layer = layer_of([*negative, *positive], columns=400)

    after = update_once(layer)

    # floor(0.3 * 10) = 3 of the positive ones, though all are larger than floor(0.3 * 7) = 2 of the negative ones
    assert [value for value in after if value in positive] == positive[3:]
    assert [value for value in after if value in negative] == negative[2:]
    assert len(after) == layer.num_active == 17


@pytest.mark.parametrize(("positive", "negative", "dropped"), [(3, 3, 0), (4, 3, 1), (7, 4, 3), (0, 10, 3), (1, 0, 0)])
def test_each_sign_loses_the_whole_part_of_its_fraction(positive: int, negative: int, dropped: int) -> None:
    layer = layer_of([5.0] * positive + [-5.0] * negative, columns=100)

    after = update_once(layer)

    assert sum(abs(value) == 5.0 for value in after) == positive + negative - dropped
    assert len(after) == positive + negative


def test_grown_weights_are_drawn_within_the_bound_of_the_dense_fan_in() -> None:
    layer = layer_of([10.0] * 1000, columns=600)

    grown = torch.tensor([value for value in update_once(layer, drop_fraction=0.9) if value != 10.0])

    assert grown.numel() == 900
    assert 0.95 * math.sqrt(6 / 600) < float(grown.abs().max()) <= math.sqrt(6 / 600)
    assert float(grown.mean().abs()) < 0.01


def test_a_weight_dropped_and_grown_again_has_a_new_value_and_no_momentum() -> None:
    # One place is free, so of ten that go nine come back at once.
    layer = layer_of([3.0] * 10, columns=6)
    optimizer = SGD(layer.parameters(), lr=0.0, momentum=0.9)
    sparsifier = recipes.set_(layer, optimizer, update_every=1, stop_step=5, generator=seeded(), drop_fraction=1.0)
    layer(torch.ones(1, 6)).sum().backward()
    optimizer.step()
    change = sparsifier.step()[0]

    assert (change.num_dropped, change.num_grown) == (10, 10)
    assert not (layer.values == 3.0).any()
    assert not optimizer.state[layer.values]["momentum_buffer"].any()


def test_a_dense_output_layer_stays_as_it_is() -> None:
    linear = nn.Linear(4, 2)
    before = linear.weight.detach().clone()

    update_once(linear, sparsity=0.0)

    assert torch.equal(linear.weight.detach(), before)


def test_masked_grown_weights_are_drawn_too() -> None:
    linear = nn.Linear(50, 20)
    optimizer = SGD(linear.parameters(), lr=0.0)
    sparsifier = recipes.set_(linear, optimizer, update_every=1, stop_step=5, generator=seeded(), sparsity=0.8)
    weight = sparsifier.weights[0]
    assert isinstance(weight, MaskedWeight)
    before = weight.mask.clone()
    linear(torch.ones(1, 50)).sum().backward()
    optimizer.step()
    sparsifier.step()

    grown = linear.weight.detach()[weight.mask & ~before]
    assert grown.numel() > 20
    assert grown.all()
    assert float(grown.abs().max()) <= math.sqrt(6 / 50)
