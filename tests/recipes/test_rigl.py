import math

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from gossamer import Sparsifier, recipes, topology
from gossamer.nn import SparseLinear
from gossamer.weights import MaskedWeight, SparseWeight, prunable
from gossamer.weights.tiles import TILE_BYTES

from .network import seeded

STORAGES = ["masked", "truly sparse"]


def row_of(dense: Tensor, storage: str, **settings: float) -> tuple[nn.Module, SGD, Sparsifier]:
    """Start RigL on one output; what is not zero is active. The gradient of weight j is input j."""
    linear = nn.Linear(dense.numel(), 1, bias=False)
    linear.weight.data.copy_(dense)
    model = SparseLinear.from_dense(linear) if storage == "truly sparse" else linear
    optimizer = SGD(model.parameters(), lr=0.0, momentum=0.9)
    sparsity = None if storage == "truly sparse" else 0.0
    sparsifier = recipes.rigl(model, optimizer, generator=seeded(), sparsity=sparsity, **settings)  # type: ignore[arg-type]
    weight = sparsifier.weights[0]
    if isinstance(weight, MaskedWeight):
        weight.set_mask_(dense[None] != 0)
    return model, optimizer, sparsifier


def step(model: nn.Module, optimizer: SGD, sparsifier: Sparsifier, inputs: Tensor) -> list[tuple[int, int]]:
    optimizer.zero_grad()
    model(inputs[None]).sum().backward()
    optimizer.step()
    return [(change.num_dropped, change.num_grown) for change in sparsifier.step()]


@pytest.mark.parametrize("storage", STORAGES)
def test_the_smallest_go_and_the_largest_gradients_come_at_zero(storage: str) -> None:
    dense = torch.tensor([5.0, -1.0, 4.0, 0.0, 0.0, 0.0, 0.0, -0.5])
    run = row_of(dense, storage, stop_step=1000, update_every=1, drop_fraction=0.5)

    changes = step(*run, torch.tensor([9.0, 0.1, 9.0, 1.0, -3.0, 2.0, 2.5, 0.1]))

    # floor(0.49999... * 4) is 1, not 2: the cosine has begun to fall; -0.5 goes, the gradient -3 comes
    assert changes == [(1, 1)]
    weight = run[2].weights[0]
    assert weight.indices().tolist() == [0, 1, 2, 4]
    assert weight.values().tolist() == [5.0, -1.0, 4.0, 0.0]


@pytest.mark.parametrize("storage", STORAGES)
def test_a_weight_dropped_and_grown_in_one_update_keeps_value_and_momentum(storage: str) -> None:
    model, optimizer, sparsifier = row_of(
        torch.tensor([0.1, 1.0, 2.0, 0.0]), storage, stop_step=1000, update_every=2, drop_fraction=0.4
    )
    inputs = torch.tensor([7.0, 0.1, 0.1, 1.0])

    assert step(model, optimizer, sparsifier, inputs) == []
    assert step(model, optimizer, sparsifier, inputs) == [(0, 0)]
    weight = sparsifier.weights[0]
    momentum = optimizer.state[weight.parameter]["momentum_buffer"].flatten()
    assert weight.values().tolist() == pytest.approx([0.1, 1.0, 2.0])
    assert momentum[:3].tolist() == pytest.approx([7.0 * 1.9, 0.19, 0.19])


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("at", [1, 10, 25, 40])
def test_the_number_exchanged_falls_along_the_cosine(storage: str, at: int) -> None:
    # Inputs are zero where weights are active, so nothing that goes comes back.
    dense = torch.cat([torch.arange(1.0, 101.0), torch.zeros(100)])
    run = row_of(dense, storage, stop_step=50, update_every=at, drop_fraction=0.3)
    for _ in range(at):
        changes = step(*run, (dense == 0) * torch.arange(200.0))

    expected = math.floor(0.3 / 2 * (1 + math.cos(math.pi * at / 50)) * 100)
    assert changes == [(expected, expected)]
    assert run[2].weights[0].indices().tolist() == [*range(expected, 100), *range(200 - expected, 200)]


@pytest.mark.parametrize("storage", STORAGES)
def test_no_update_comes_at_the_stop_or_after_it(storage: str) -> None:
    dense = torch.cat([torch.arange(1.0, 11.0), torch.zeros(10)])
    run = row_of(dense, storage, stop_step=4, update_every=2)

    assert [len(step(*run, torch.ones(20))) for _ in range(6)] == [0, 1, 0, 0, 0, 0]


def test_growth_follows_the_batch_of_the_update_alone() -> None:
    dense = torch.tensor([5.0, 1.0, 0.0, 0.0])
    run = row_of(dense, "truly sparse", stop_step=1000, update_every=2, drop_fraction=0.6)
    step(*run, torch.tensor([0.0, 0.0, 100.0, 0.0]))
    step(*run, torch.tensor([0.0, 0.0, 1.0, 2.0]))

    # the first batch, whose gradient was larger at place 2, is forgotten
    assert run[2].weights[0].indices().tolist() == [0, 3]


def test_a_dense_gradient_too_large_to_hold_is_searched() -> None:
    # 10^9 entries: a dense float32 gradient would be 4 GB.
    places = topology.from_linear(torch.arange(0, 10**9, 10**7), (20_000, 50_000))
    layer = SparseLinear.from_topology(places, torch.ones(100))
    weight = prunable(layer)[0]

    first, tile = next(iter(_watched(layer, weight).gradient_tiles()))
    assert first == 0
    assert tile.nbytes <= TILE_BYTES


def _watched(layer: SparseLinear, weight: object) -> SparseWeight:
    assert isinstance(weight, SparseWeight)
    weight.attach()
    weight.watch()
    layer(torch.ones(1, 50_000)).sum().backward()
    return weight
