from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from gossamer import Sparsifier, budgets, recipes
from gossamer.models import mlp
from gossamer.nn import AllReLU, SparseLinear
from gossamer.recipes.readers import find_readers
from gossamer.weights import prunable

from .network import seeded

STORAGES = ["masked", "truly sparse"]
# Closed, so that what is removed can be looked at.
SHAPE = {
    "update_every": 2,
    "stop_step": 30,
    "prune_start_step": 3,
    "prune_every": 5,
    "neuron_fraction": 0.25,
    "compact": False,
}


def begin(model: nn.Module, sparsity: float | None, **changed: Any) -> tuple[SGD, Sparsifier]:
    optimizer = SGD(model.parameters(), lr=0.05, momentum=0.9)
    settings: dict[str, Any] = SHAPE | {"generator": seeded(), "sparsity": sparsity} | changed
    return optimizer, recipes.truly_sparse(model, optimizer, **settings)


def train(model: nn.Module, optimizer: SGD, sparsifier: Sparsifier, width: int, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, width, generator=seeded(sparsifier.num_steps))).pow(2).mean().backward()
        optimizer.step()
        sparsifier.step()


def in_and_out(sparsifier: Sparsifier, layer: int) -> tuple[Tensor, Tensor]:
    """Return how many weights lead into each neuron of a hidden layer, and how many lead out of it."""
    source, reader = sparsifier.weights[layer : layer + 2]
    rows = (source.indices() // source.shape[1]).bincount(minlength=source.shape[0])
    return rows, (reader.indices() % reader.shape[1]).bincount(minlength=reader.shape[1])


@pytest.mark.parametrize("storage", STORAGES)
def test_removed_neurons_lose_all_their_weights_and_never_come_back(storage: str) -> None:
    sparse = storage == "truly sparse"
    model = mlp([10, 16, 12, 4], sparsity=0.5 if sparse else 0.0, budget=budgets.uniform, alpha=0.6, generator=seeded())
    optimizer, sparsifier = begin(model, None if sparse else 0.5)
    removed = [torch.zeros(16, dtype=torch.bool), torch.zeros(12, dtype=torch.bool)]
    open_neurons = []
    for _ in range(32):
        train(model, optimizer, sparsifier, 10, 1)
        for layer, gone in enumerate(removed):
            closed = sparsifier.weights[layer].closed_rows
            incoming, outgoing = in_and_out(sparsifier, layer)

            assert not (gone & ~closed).any()
            assert not incoming[closed].any()
            assert not outgoing[closed].any()
            gone |= closed
        open_neurons.append([int((~weight.closed_rows).sum()) for weight in sparsifier.weights])
    # floor(0.25 n) go at steps 3, 8, 13, 18, 23 and 28; the output layer has none to lose
    assert open_neurons[2] == open_neurons[6] == [12, 9, 4]
    assert open_neurons[7] == [9, 7, 4]
    assert open_neurons[-1] == [4, 3, 4]


@pytest.mark.parametrize("storage", STORAGES)
def test_a_removed_neuron_passes_nothing_on(storage: str) -> None:
    sparse = storage == "truly sparse"
    model = mlp([10, 16, 4], sparsity=0.5 if sparse else 0.0, budget=budgets.uniform, alpha=0.6, generator=seeded())
    optimizer, sparsifier = begin(model, None if sparse else 0.5)
    train(model, optimizer, sparsifier, 10, 8)
    inputs = torch.randn(3, 10, generator=seeded(9))
    before = model(inputs)
    bias = dict(model.named_parameters())["0.bias"]
    bias.data[sparsifier.weights[0].closed_rows] += 100.0

    assert torch.equal(model(inputs), before)


def reader_of(model: nn.Module, width: int) -> list[list[bool]]:
    """Return for each weight whether a removal of neurons closed any of its outputs and any of its inputs."""
    optimizer, sparsifier = begin(model, 0.5, prune_start_step=1)
    train(model, optimizer, sparsifier, width, 1)
    return [[bool(weight.closed_rows.any()), bool(weight.closed_columns.any())] for weight in sparsifier.weights]


ELEMENTWISE: list[nn.Module] = [
    nn.ReLU(),
    nn.ReLU(inplace=True),
    nn.Sigmoid(),
    nn.Tanh(),
    nn.GELU(),
    nn.SiLU(),
    nn.ELU(),
    nn.LeakyReLU(),
    nn.Identity(),
    nn.Dropout(0.1),
    AllReLU(alpha=0.6, layer=1),
]


@pytest.mark.parametrize("between", ELEMENTWISE, ids=str)
def test_a_reader_is_found_across_element_wise_modules(between: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(6, 8), between, nn.Dropout(0.1), nn.Linear(8, 3))

    assert reader_of(model, 6) == [[True, False], [False, True]]


def test_readers_are_found_in_a_users_module_by_what_it_computes() -> None:
    class Users(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            # Listed before what it reads: only the forward pass tells which layer is the output.
            self.head = nn.Linear(8, 3)
            self.body = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8))

        def forward(self, inputs: Tensor) -> Tensor:
            result: Tensor = self.head(torch.relu(self.body(inputs)))
            return result

    assert reader_of(Users(), 6) == [[False, True], [True, False], [True, True]]


BARRIERS: dict[str, tuple[nn.Module, ...]] = {
    "batch norm": (nn.BatchNorm1d(8), nn.ReLU()),
    "layer norm": (nn.ReLU(), nn.LayerNorm(8)),
    "softmax": (nn.Softmax(dim=1),),
    "flatten": (nn.Flatten(),),
}


@pytest.mark.parametrize("name", BARRIERS)
def test_no_reader_is_assumed_across_anything_else(name: str) -> None:
    model = nn.Sequential(nn.Linear(6, 8), *BARRIERS[name], nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))

    assert reader_of(model, 6) == [[False, False], [True, False], [False, True]]


def test_no_reader_is_assumed_of_a_layer_that_is_used_twice_or_read_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.shared, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            hidden = torch.relu(self.first(inputs))
            hidden = self.shared(torch.relu(self.shared(hidden))) + hidden
            result: Tensor = self.last(hidden)
            return result

    assert find_readers(Twice(), prunable(Twice())) == {}


def test_a_model_without_known_readers_is_refused_unless_no_neuron_is_to_go() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 3))
    with pytest.raises(ValueError, match="neuron_fraction=0"):
        begin(model, 0.5)

    _, sparsifier = begin(model, 0.5, neuron_fraction=0.0)
    assert sparsifier.num_active() > 0


def test_exchange_and_removal_in_one_step_leave_a_sound_topology() -> None:
    model = mlp([10, 16, 12, 4], sparsity=0.3, budget=budgets.uniform, generator=seeded())
    optimizer, sparsifier = begin(model, None, update_every=1, prune_start_step=1, prune_every=1, neuron_fraction=0.2)
    train(model, optimizer, sparsifier, 10, 20)

    for layer in model:
        if isinstance(layer, SparseLinear):
            SparseLinear.from_topology(layer.topology, layer.values.detach())
    assert [int((~weight.closed_rows).sum()) for weight in sparsifier.weights] == [4, 4, 4]


def test_removal_every_ten_exchanges_unless_told_otherwise() -> None:
    model = mlp([10, 16, 4], sparsity=0.5, budget=budgets.uniform, generator=seeded())
    optimizer, sparsifier = begin(
        model, None, update_every=1, prune_start_step=2, prune_every=None, neuron_fraction=0.1
    )
    closed = []
    for _ in range(14):
        train(model, optimizer, sparsifier, 10, 1)
        closed.append(int(sparsifier.weights[0].closed_rows.sum()))

    assert closed == [0] + [1] * 10 + [2] * 3


@pytest.mark.parametrize("changed", [{"neuron_fraction": 1.5}, {"prune_every": 0}, {"update_every": 0}], ids=str)
def test_settings_out_of_range_are_refused_with_the_model_unchanged(changed: dict[str, Any]) -> None:
    model = mlp([10, 16, 4], generator=seeded())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=next(iter(changed)) if "prune_every" not in changed else "update_every"):
        begin(model, 0.5, **changed)

    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
