"""Convolutions and embeddings: masked and truly sparse runs pick the same topologies, as those of linear layers do."""

import copy
import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer import Sparsifier, budgets, counts, recipes, to_sparse
from gossamer.nn import SparseConv1d, SparseConv2d
from gossamer.weights import SparseWeight

from .cases import NUM_STEPS, OPTIMIZERS, STOP_STEP, gmp_from_dense
from .network import over_active, seeded

Start = Callable[..., Sparsifier]
STARTS: dict[str, Start] = {
    "static": recipes.static,
    "set": functools.partial(recipes.set_, update_every=3, stop_step=STOP_STEP),
    "rigl": functools.partial(recipes.rigl, update_every=3, stop_step=STOP_STEP),
    "srigl": functools.partial(recipes.srigl, update_every=3, stop_step=STOP_STEP),
}


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True),
            nn.Conv2d(6, 8, (3, 2), groups=2, stride=2), nn.ReLU(), nn.Flatten(2),
            nn.Conv1d(8, 4, 3, bias=False), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(28, 5),
        ).double()  # fmt: skip


def begin(model: nn.Module, optimizer: str, start: Start, *, generator: object, sparsity: float | None) -> "Run":
    held = OPTIMIZERS[optimizer](model)
    sparsifier = start(model, held, generator=generator, sparsity=sparsity)
    return model, held, sparsifier


Run = tuple[nn.Module, Optimizer, Sparsifier]


def train_step(run: Run, step: int) -> None:
    model, optimizer, sparsifier = run
    inputs = torch.randn(6, 3, 8, 7, generator=seeded(1000 + step)).double()
    optimizer.zero_grad()
    loss: Tensor = model(inputs).pow(2).mean() + model(inputs).mean()
    loss.backward()
    optimizer.step()
    sparsifier.step()


def topology_of(run: Run) -> list[list[int]]:
    return [weight.indices().tolist() for weight in run[2].weights]


def assert_same_state(one: Run, other: Run) -> None:
    for mine, theirs in zip(one[2].weights, other[2].weights, strict=True):
        for left, right in zip(over_active(mine, one[1]), over_active(theirs, other[1]), strict=True):
            torch.testing.assert_close(left, right)


@pytest.mark.parametrize("name", STARTS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_masked_and_truly_sparse_convolutions_pick_the_same_topologies_step_by_step(name: str, optimizer: str) -> None:
    model, generator = network(), seeded(1)
    start = functools.partial(STARTS[name], budget=budgets.uniform)
    masked = begin(model, optimizer, start, generator=generator, sparsity=0.6)
    same = torch.Generator()
    same.set_state(generator.get_state())
    sparse = begin(to_sparse(model), optimizer, STARTS[name], generator=same, sparsity=None)
    assert all(isinstance(weight, SparseWeight) for weight in sparse[2].weights)
    assert [type(sparse[0].get_submodule(path)) for path in ("0", "3", "6")] == [
        SparseConv2d,
        SparseConv2d,
        SparseConv1d,
    ]

    first = topology_of(masked)
    for step in range(1, NUM_STEPS + 1):
        train_step(masked, step)
        train_step(sparse, step)
        assert topology_of(masked) == topology_of(sparse)
    assert (topology_of(masked) == first) == (name == "static")
    assert_same_state(masked, sparse)


@pytest.mark.parametrize("name", ["set", "rigl", "srigl"])
@pytest.mark.parametrize("make", [nn.RNN, nn.LSTM, nn.GRU])
def test_masked_and_truly_sparse_recurrent_layers_pick_the_same_topologies_step_by_step(name: str, make: type) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Last(make(6, 7, num_layers=2, bidirectional=True)).double()
    generator, same = seeded(1), torch.Generator()
    start = functools.partial(STARTS[name], budget=budgets.uniform)
    masked = begin(model, "AdamW", start, generator=generator, sparsity=0.6)
    same.set_state(generator.get_state())
    sparse = begin(to_sparse(model), "AdamW", STARTS[name], generator=same, sparsity=None)
    assert len(sparse[2].weights) == 8
    assert all(isinstance(weight, SparseWeight) for weight in sparse[2].weights)

    first = topology_of(masked)
    for step in range(1, 8):
        for network_, optimizer, sparsifier in (masked, sparse):
            inputs = torch.randn(5, 4, 6, generator=seeded(step)).double()
            optimizer.zero_grad()
            network_(inputs).pow(2).mean().backward()
            optimizer.step()
            sparsifier.step()
        assert topology_of(masked) == topology_of(sparse)
    assert topology_of(masked) != first
    assert_same_state(masked, sparse)


class Last(nn.Module):
    """What a recurrent layer says last."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layer(inputs)[0]
        return outputs[-1]


def test_gmp_thins_truly_sparse_convolutions_as_masked_ones() -> None:
    model = network()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            # Both storages have zeros to begin with, so that all layers are converted.
            parameter.data.view(-1)[::3] = 0.0
    sparse = begin(to_sparse(model), "SGD", gmp_from_dense, generator=None, sparsity=None)
    masked = begin(model, "SGD", gmp_from_dense, generator=None, sparsity=None)
    for weight in masked[2].weights:
        weight.set_mask_(weight.parameter != 0)  # type: ignore[union-attr]

    for step in range(1, NUM_STEPS + 1):
        train_step(masked, step)
        train_step(sparse, step)
        assert topology_of(masked) == topology_of(sparse)
    assert [weight.num_active for weight in sparse[2].weights] == [
        counts.num_active(size, 0.8) for size in (162, 144, 96, 140)
    ]
    assert_same_state(masked, sparse)


def test_a_run_of_convolutions_goes_on_from_its_saved_state() -> None:
    model = to_sparse(begin(network(), "SGD", recipes.static, generator=seeded(), sparsity=0.6)[0])
    whole, other = (
        begin(one, "AdamW", STARTS["rigl"], generator=seeded(seed), sparsity=None)
        for seed, one in (
            (1, model),
            (2, to_sparse(begin(network(), "SGD", recipes.static, generator=seeded(5), sparsity=0.5)[0])),
        )
    )
    for step in range(1, 5):
        train_step(whole, step)
    other[0].load_state_dict(whole[0].state_dict())
    # A copy: what is loaded is not.
    other[1].load_state_dict(copy.deepcopy(whole[1].state_dict()))
    other[2].load_state_dict(whole[2].state_dict())
    for step in range(5, 9):
        train_step(whole, step)
        train_step(other, step)

    assert topology_of(whole) == topology_of(other)
    assert all(torch.equal(value, other[0].state_dict()[key]) for key, value in whole[0].state_dict().items())
