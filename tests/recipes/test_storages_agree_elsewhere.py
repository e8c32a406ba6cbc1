"""Convolutions and embeddings: masked and truly sparse runs pick the same topologies, as those of linear layers do."""

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer import Sparsifier, budgets, counts, recipes, testing, to_sparse
from gossamer.nn import SparseConv1d, SparseConv2d, SparseLinear
from gossamer.nn.counterparts import SPARSE_LAYERS
from gossamer.testing.optimizers import MakeOptimizer
from gossamer.testing.run import make_model
from gossamer.weights import SparseWeight

from .case import NUM_STEPS, OPTIMIZERS, STOP_STEP
from .cases import find
from .network import over_active, seeded

Start = Callable[..., Sparsifier]
STARTS: dict[str, Start] = {
    "static": recipes.static,
    "set": functools.partial(recipes.set_, update_every=3, stop_step=STOP_STEP),
    "rigl": functools.partial(recipes.rigl, update_every=3, stop_step=STOP_STEP),
    "gse": functools.partial(recipes.gse, update_every=3, stop_step=STOP_STEP),
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
@pytest.mark.parametrize("optimizer", testing.OPTIMIZERS, ids=lambda make: make.__name__)
def test_masked_and_truly_sparse_convolutions_pick_the_same_topologies_step_by_step(
    name: str, optimizer: MakeOptimizer
) -> None:
    trial = testing.Trial(
        start=STARTS[name],
        storage="truly sparse",
        optimizer=optimizer,
        network=testing.CONVOLUTIONAL,
        promise=testing.Promise(due=() if name == "static" else (3, 6, 9), first_values=None),
    )
    layers = [module for module in make_model(trial, seeded()).modules() if isinstance(module, SPARSE_LAYERS)]

    assert [type(layer) for layer in layers] == [SparseConv2d, SparseConv2d, SparseConv1d, SparseLinear]
    testing.check_storages(trial)
    testing.check_steps(trial)
    testing.check_updates(trial)
    testing.check_resume(trial, saved_at=(4,))


@pytest.mark.parametrize("name", ["set", "rigl", "gse", "srigl"])
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
    sparse = begin(to_sparse(model), "SGD", find("gmp").start, generator=None, sparsity=None)
    masked = begin(model, "SGD", find("gmp").start, generator=None, sparsity=None)
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
