import math

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, AdamW

from .network import STORAGES, backward, network, rigl_of, seeded, topology_of

both = pytest.mark.parametrize("storage", STORAGES)


@both
def test_two_calls_after_one_optimizer_step_count_once(storage: str) -> None:
    model = network(storage)
    optimizer = SGD(model.parameters(), lr=0.1)
    sparsifier = rigl_of(model, optimizer, storage)
    backward(model)
    optimizer.step()

    assert len(sparsifier.step()) == 2
    assert sparsifier.step() == []
    assert sparsifier.num_steps == 1


@both
def test_a_call_without_an_optimizer_step_counts_nothing(storage: str) -> None:
    model = network(storage)
    sparsifier = rigl_of(model, SGD(model.parameters(), lr=0.1), storage)
    before = topology_of(sparsifier)
    backward(model)

    assert sparsifier.step() == []
    assert sparsifier.num_steps == 0
    assert topology_of(sparsifier) == before


@both
def test_a_closure_counts_as_one_step(storage: str) -> None:
    model = network(storage)
    optimizer = SGD(model.parameters(), lr=0.1)
    sparsifier = rigl_of(model, optimizer, storage)
    optimizer.step(lambda: float(backward(model)))

    assert len(sparsifier.step()) == 2
    assert sparsifier.num_steps == 1


@both
def test_updates_come_at_their_steps_alone(storage: str) -> None:
    model = network(storage)
    optimizer = SGD(model.parameters(), lr=0.1)
    sparsifier = rigl_of(model, optimizer, storage, update_every=3)
    changed = []
    for step in range(1, 8):
        optimizer.zero_grad()
        backward(model, seed=step)
        optimizer.step()
        changed.append([change.name for change in sparsifier.step()])

    names = [weight.name for weight in sparsifier.weights]
    assert changed == [[], [], names, [], [], names, []]


@both
@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_a_grad_scaler_skips_leaves_no_trace(storage: str, fused: bool) -> None:
    topologies = []
    for poisoned in (False, True):
        model = network(storage)
        optimizer = AdamW(model.parameters(), lr=0.01, fused=fused)
        sparsifier = rigl_of(model, optimizer, storage)
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        for factor in [float("inf"), float("nan"), 1.0] if poisoned else [1.0]:
            optimizer.zero_grad()
            inputs = torch.randn(8, 6, generator=seeded(1), dtype=torch.float64)
            scaler.scale(model(inputs).pow(2).mean() * factor).backward()
            scaler.step(optimizer)
            scaler.update()
            sparsifier.step()
        topologies.append(topology_of(sparsifier))

        assert sparsifier.num_steps == 1
    assert topologies[0] == topologies[1]


@both
def test_micro_batches_grow_what_the_whole_batch_grows(storage: str) -> None:
    topologies = []
    for rows in (12, 3):
        model = network(storage)
        optimizer = AdamW(model.parameters(), lr=0.01)
        sparsifier = rigl_of(model, optimizer, storage, update_every=2)
        for step in range(4):
            optimizer.zero_grad()
            inputs = torch.randn(12, 6, generator=seeded(step), dtype=torch.float64)
            for micro_batch in inputs.split(rows):
                (model(micro_batch).pow(2).sum() / 12).backward()
                if micro_batch is not inputs:
                    sparsifier.step()
            optimizer.step()
            sparsifier.step()
        topologies.append(topology_of(sparsifier))

    assert topologies[0] == topologies[1]


@both
def test_growth_takes_the_largest_entries_of_the_dense_gradient(storage: str) -> None:
    model = network(storage)
    optimizer = SGD(model.parameters(), lr=0.0)
    sparsifier = rigl_of(model, optimizer, storage)
    weight = sparsifier.weights[0]
    before, values = weight.indices(), weight.values().clone()
    backward(model)
    gradient = torch.cat([tile for _, tile in weight.gradient_tiles()]).abs().flatten()
    optimizer.step()
    change = sparsifier.step()[0]

    # What grows is the best of all that is not kept, what was dropped just now among it.
    count = math.floor(0.3 * (1 + math.cos(math.pi / 50)) / 2 * before.numel())
    kept = before[values.abs().sort(descending=True).indices[: before.numel() - count]]
    expected: Tensor = gradient.index_fill(0, kept, -1.0).topk(count).indices
    assert sorted(weight.indices().tolist()) == sorted([*kept.tolist(), *expected.tolist()])
    assert change.num_grown == int((~torch.isin(expected, before)).sum())


@both
def test_the_gradient_may_be_cleared_before_the_sparsifier_steps(storage: str) -> None:
    model = network(storage)
    optimizer = SGD(model.parameters(), lr=0.1)
    sparsifier = rigl_of(model, optimizer, storage)
    backward(model)
    optimizer.step()
    optimizer.zero_grad()

    assert len(sparsifier.step()) == 2


@both
def test_gradients_are_recorded_for_the_step_of_an_update_alone(storage: str) -> None:
    model = network(storage)
    optimizer = SGD(model.parameters(), lr=0.1)
    sparsifier = rigl_of(model, optimizer, storage, update_every=3)
    recorded = []
    for step in range(6):
        backward(model, seed=step)
        try:
            recorded.append(bool(list(sparsifier.weights[0].gradient_tiles())))
        except RuntimeError:
            recorded.append(False)
        optimizer.step()
        sparsifier.step()

    assert recorded == [False, False, True, False, False, True]
