"""What the methods that move weights between tensors share, and what those that record something save."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer

from gossamer import Sparsifier, budgets, criteria, masks, prunable, recipes, schedules, to_dense, to_sparse
from gossamer.models import mlp
from gossamer.recipes.rigl import grow_by_gradient
from gossamer.updates import Explored, Redistribute, by_largest, over_all
from gossamer.weights import MaskedWeight, SparseWeight

from .case import OPTIMIZERS, STORAGES
from .network import assert_same, begin, counts_of, everything, seeded, topology_of, train_step

Start = Callable[..., Sparsifier]
MOVING: dict[str, Start] = {
    "dsr": functools.partial(recipes.dsr, update_every=2, stop_step=20, drop_fraction=0.3, threshold=0.1),
    "deep_r": functools.partial(recipes.deep_r, strength=0.01, temperature=0.5, stop_step=20),
}


def with_record(model: nn.Module, optimizer: Optimizer, **settings: Any) -> Sparsifier:
    return recipes.rigl_itop(model, optimizer, update_every=3, stop_step=12, explored=Explored(every=3), **settings)


RECORDING: dict[str, Start] = {
    "rigl_itop": with_record,
    "soft mest": functools.partial(
        recipes.mest, update_every=3, stop_step=10, drop_fraction=0.4, grad_factor=1.0, soft_bound=True
    ),
}


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("name", RECORDING)
@pytest.mark.parametrize("saved_at", [2, 3, 7])
def test_what_is_recorded_goes_on_bit_for_bit(storage: str, name: str, saved_at: int, tmp_path: Path) -> None:
    whole = begin(RECORDING[name], OPTIMIZERS["AdamW"], storage)
    for step in range(1, saved_at + 1):
        train_step(whole, step)
    torch.save(everything(whole), tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed = begin(RECORDING[name], OPTIMIZERS["AdamW"], storage, seed=5)
    for part in ("sparsifier", "model", "optimizer"):
        getattr(resumed, part).load_state_dict(saved[part])
    for step in range(saved_at + 1, 13):
        train_step(whole, step)
        train_step(resumed, step)

    assert_same(everything(resumed), everything(whole))


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("name", MOVING)
def test_weights_move_between_tensors_and_none_is_lost(storage: str, name: str) -> None:
    run = begin(MOVING[name], OPTIMIZERS["SGD"], storage)
    before = counts_of(run)
    for step in range(1, 13):
        train_step(run, step)

        assert sum(counts_of(run)) == sum(before)
        assert name == "deep_r" or min(counts_of(run)) >= 1
    assert counts_of(run) != before


@pytest.mark.parametrize("name", [*MOVING, "soft mest"])
def test_both_storages_of_convolutions_move_the_same(name: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, stride=2), nn.Flatten(), nn.Linear(36, 5)
        ).double()  # fmt: skip
    start, generator, same = (MOVING | RECORDING)[name], seeded(1), torch.Generator()
    optimizer = SGD(model.parameters(), lr=0.05, momentum=0.9)
    masked = start(model, optimizer, generator=generator, sparsity=0.6, budget=budgets.uniform)
    same.set_state(generator.get_state())
    twin = to_sparse(model)
    held = SGD(twin.parameters(), lr=0.05, momentum=0.9)
    sparse = start(twin, held, generator=same, sparsity=None)
    assert all(isinstance(weight, SparseWeight) for weight in sparse.weights)
    first = [weight.indices().tolist() for weight in masked.weights]
    for step in range(8):
        inputs = torch.randn(4, 3, 8, 8, generator=seeded(step)).double()
        for network, each, sparsifier in ((model, optimizer, masked), (twin, held, sparse)):
            each.zero_grad()
            network(inputs).pow(2).mean().backward()
            each.step()
            sparsifier.step()

        assert [w.indices().tolist() for w in masked.weights] == [w.indices().tolist() for w in sparse.weights]
    assert [weight.indices().tolist() for weight in masked.weights] != first


@pytest.mark.parametrize("name", MOVING)
def test_a_dense_output_layer_of_a_truly_sparse_network_gives_weights_away(name: str) -> None:
    model = mlp([30, 40, 4], sparsity=0.9, budget=budgets.erk, generator=seeded())
    model[-1] = nn.Linear(40, 4)
    optimizer = SGD(model.parameters(), lr=0.1)
    sparsifier = MOVING[name](model, optimizer, generator=seeded())
    total = sparsifier.num_active()
    for step in range(6):
        optimizer.zero_grad()
        model(torch.randn(8, 30, generator=seeded(step))).pow(2).mean().backward()
        optimizer.step()
        sparsifier.step()

    assert sparsifier.num_active() == total
    assert sparsifier.weights[-1].num_active < 160


@pytest.mark.parametrize("name", MOVING)
def test_a_network_of_one_neuron_and_few_weights(name: str) -> None:
    model = mlp([3, 1, 2], sparsity=0.5, budget=budgets.uniform, generator=seeded())
    optimizer = SGD(model.parameters(), lr=0.1)
    sparsifier = MOVING[name](model, optimizer, generator=seeded(3))
    total = sparsifier.num_active()
    for step in range(10):
        optimizer.zero_grad()
        model(torch.randn(4, 3, generator=seeded(step))).pow(2).mean().backward()
        optimizer.step()
        sparsifier.step()

    assert sparsifier.num_active() == total


@pytest.mark.parametrize("storage", STORAGES)
def test_dsr_with_all_to_drop_keeps_one_weight_of_each_tensor(storage: str) -> None:
    start = functools.partial(recipes.dsr, update_every=1, stop_step=20, drop_fraction=1.0, threshold=1e6)
    run = begin(start, OPTIMIZERS["SGD"], storage)
    total = sum(counts_of(run))
    for step in range(1, 5):
        train_step(run, step)

        assert sum(counts_of(run)) == total
        assert min(counts_of(run)) >= 1


def test_topologies_of_the_same_seed_do_not_depend_on_the_record() -> None:
    plain = functools.partial(recipes.rigl_itop, update_every=3, stop_step=12)
    one, other = (begin(start, OPTIMIZERS["SGD"], "masked") for start in (plain, with_record))
    for step in range(1, 10):
        train_step(one, step)
        train_step(other, step)

    assert topology_of(one) == topology_of(other)


def one_ranking(fraction: float) -> Redistribute:
    """All weights compete in what goes and in what comes."""
    return Redistribute(
        drop=lambda weight: criteria.magnitude(weight.values()),
        survive=over_all,
        allot=by_largest(lambda weight: weight.gradient_tiles()),
        grow=grow_by_gradient,
        drop_fraction=schedules.constant(fraction),
        update_every=1,
        stop_step=9,
        keep_regrown=True,
        uses_gradient=True,
    )


@pytest.mark.parametrize("fraction", [0.1, 0.5, 1.0])
def test_one_ranking_over_all_tensors_is_the_best_of_the_dense_gradient(fraction: float) -> None:
    model = mlp([10, 16, 4], generator=seeded()).double()
    optimizer = SGD(model.parameters(), lr=0.0)
    views = prunable(model)
    for number, view in enumerate(views):
        assert isinstance(view, MaskedWeight)
        view.set_mask_(masks.draw(view.shape, view.parameter.numel() * 2 // 5, generator=seeded(number)))
    sparsifier = Sparsifier(views, optimizer, updates=[one_ranking(fraction)], generator=seeded())
    values = torch.cat([weight.parameter.detach().flatten().float().abs() for weight in views])
    active = torch.cat([torch.zeros_like(weight.parameter).flatten().bool() for weight in views])
    offsets = [0, 160]
    for offset, weight in zip(offsets, views, strict=True):
        active[weight.indices() + offset] = True
    model(torch.randn(8, 10, generator=seeded(3)).double()).pow(2).sum().backward()
    tiles = [torch.cat([tile for _, tile in weight.gradient_tiles()]).flatten() for weight in views]
    gradient = torch.cat(tiles).float().abs()
    optimizer.step()
    sparsifier.step()

    count = min(int(fraction * int(active.sum()) + 1e-9), int(active.sum()) - 2)
    best = [int(values[:160].argmax()), 160 + int(values[160:].argmax())]
    order = [
        int(place) for place in values.argsort(descending=True, stable=True) if active[place] and place not in best
    ]
    kept = {*best, *order[: len(order) - count]}
    absent = [int(place) for place in gradient.argsort(descending=True, stable=True) if int(place) not in kept]
    found = {int(place) + offset for offset, weight in zip(offsets, views, strict=True) for place in weight.indices()}
    assert found == kept | set(absent[:count])


def test_one_ranking_is_the_same_in_both_storages() -> None:
    model = mlp([10, 16, 4], sparsity=0.6, budget=budgets.uniform, generator=seeded()).double()
    found = []
    for network in (model, to_dense(model)):
        optimizer = SGD(network.parameters(), lr=0.05, momentum=0.9)
        views = prunable(network)
        for view in views:
            if isinstance(view, MaskedWeight):
                view.set_mask_(view.parameter != 0)
        sparsifier = Sparsifier(views, optimizer, updates=[one_ranking(0.3)], generator=seeded())
        seen = []
        for step in range(6):
            optimizer.zero_grad()
            network(torch.randn(8, 10, generator=seeded(step)).double()).pow(2).mean().backward()
            optimizer.step()
            sparsifier.step()
            seen.append([weight.indices().tolist() for weight in sparsifier.weights])
        found.append(seen)

    assert found[0] == found[1]
    assert found[0][0] != found[0][-1]
    assert len({len(step[0]) for step in found[0]}) > 1
