from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from gossamer import Sparsifier, recipes
from gossamer.models import mlp

from .case import OPTIMIZERS, STORAGES
from .network import SHAPES, Run, backward, begin, seeded, train_step

both = pytest.mark.parametrize("storage", STORAGES)
SETTINGS: dict[str, Any] = {"update_every": 2, "prune_start_step": 7, "stop_step": 12, "neuron_fraction": 0.15}


def run_of(storage: str, **changed: Any) -> Run:
    def start(model: nn.Module, held: torch.optim.Optimizer, **rest: Any) -> Sparsifier:
        return recipes.nest(model.double(), held, **(SETTINGS | changed), **rest)

    return begin(start, OPTIMIZERS["SGD"], storage)


def sizes(run: Run) -> list[tuple[int, ...]]:
    return [weight.shape for weight in run.sparsifier.weights]


@both
def test_neurons_and_weights_grow_at_each_update_by_their_fractions(storage: str) -> None:
    run = run_of(storage, grow_fraction=0.1)
    before = [weight.num_active for weight in run.sparsifier.weights]
    seen = [sizes(run)]
    for step in range(1, 7):
        train_step(run, step)
        seen.append(sizes(run))

    # floor(0.15 * 16) = 2, then of 18, and 3 of 20; of 12, 13 and 14 one, one and two
    grown = [[(18, 10), (13, 18), (4, 13)], [(20, 10), (14, 20), (4, 14)], [(23, 10), (16, 23), (4, 16)]]
    assert seen == [SHAPES, SHAPES, grown[0], grown[0], grown[1], grown[1], grown[2]]
    for weight, count in zip(run.sparsifier.weights, before, strict=True):
        assert weight.num_active >= count + 3 * (count // 10)


@both
def test_the_function_does_not_jump_when_the_network_grows(storage: str) -> None:
    run = run_of(storage)
    inputs = torch.randn(9, 10, generator=seeded(3), dtype=torch.float64)
    for step in range(1, 7):
        backward(run, step)
        run.optimizer.step()
        before: Tensor = run.model(inputs)
        count = run.sparsifier.num_active()
        run.sparsifier.step()

        torch.testing.assert_close(run.model(inputs), before, rtol=0.0, atol=1e-12)
        assert (run.sparsifier.num_active() > count) == (step % 2 == 0)


@both
def test_it_ends_with_no_more_weights_than_it_began_with(storage: str) -> None:
    run = run_of(storage, grow_fraction=0.5)
    before = [weight.num_active for weight in run.sparsifier.weights]
    counts = []
    for step in range(1, 15):
        train_step(run, step)
        counts.append(run.sparsifier.num_active())

    after = [weight.num_active for weight in run.sparsifier.weights]
    assert all(now <= then for now, then in zip(after, before, strict=True))
    assert max(counts) > sum(before)
    assert counts[5:] == sorted(counts[5:], reverse=True)
    assert counts[11] == counts[13]


@both
def test_neurons_that_pruning_leaves_without_weights_are_gone(storage: str) -> None:
    run = run_of(storage, grow_fraction=1.0)
    for step in range(1, 15):
        train_step(run, step)

    assert sizes(run)[0][0] < 23
    for layer in (0, 1):
        weight, reader = run.sparsifier.weights[layer : layer + 2]
        assert (weight.indices() // weight.shape[1]).bincount(minlength=weight.shape[0]).all()
        assert (reader.indices() % reader.shape[1]).bincount(minlength=reader.shape[1]).all()


def test_steps_out_of_order_and_models_without_hidden_layers_are_refused() -> None:
    model = mlp([6, 8, 3], sparsity=0.5, generator=seeded())
    optimizer = SGD(model.parameters(), lr=0.1)
    for wrong in ({"update_every": 7}, {"stop_step": 6}, {"update_every": 0}):
        with pytest.raises(ValueError, match="update_every"):
            recipes.nest(model, optimizer, generator=seeded(), **(SETTINGS | wrong))
    with pytest.raises(ValueError, match="neuron_fraction must lie in"):
        recipes.nest(model, optimizer, generator=seeded(), **(SETTINGS | {"neuron_fraction": 2.0}))
    plain = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 3))
    with pytest.raises(ValueError, match="no neuron can be grown"):
        recipes.nest(plain, SGD(plain.parameters(), lr=0.1), generator=seeded(), sparsity=0.5, **SETTINGS)
