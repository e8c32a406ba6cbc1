import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD

from gossamer import Sparsifier, budgets, prunable
from gossamer.models import mlp
from gossamer.nn import SparseLinear

from .network import STORAGES, backward, frozen, inactive_of, network, rigl_of, seeded, topology_of

both = pytest.mark.parametrize("storage", STORAGES)


def trained(storage: str, model: nn.Sequential | None = None, steps: int = 3) -> tuple[nn.Sequential, SGD, Sparsifier]:
    model = network(storage) if model is None else model
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    sparsifier = rigl_of(model, optimizer, storage)
    go_on(model, optimizer, sparsifier, steps)
    return model, optimizer, sparsifier


def go_on(model: nn.Module, optimizer: SGD, sparsifier: Sparsifier, steps: int = 2) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        backward(model, seed=sparsifier.num_steps)
        optimizer.step()
        sparsifier.step()


def views_named(module: nn.Module, name: str) -> Any:
    views = prunable(module)
    for view in views:
        view.name = name
    return views


def pickled(model: nn.Sequential) -> nn.Sequential:
    twin: nn.Sequential = pickle.loads(pickle.dumps(model))
    return twin


def saved(model: nn.Sequential) -> nn.Sequential:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    twin: nn.Sequential = torch.load(file, weights_only=False)
    return twin


@both
def test_the_state_is_loadable_with_weights_only_and_comes_back_whole(storage: str) -> None:
    _, _, sparsifier = trained(storage)
    file = io.BytesIO()
    torch.save(sparsifier.state_dict(), file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)

    assert loaded["num_steps"] == 3
    again = rigl_of(model := network(storage, seed=5), SGD(model.parameters(), lr=0.1), storage)
    again.load_state_dict(loaded)
    assert again.num_steps == 3
    assert frozen(again.state_dict()) == frozen(loaded)


@both
def test_a_saved_state_does_not_change_with_the_run(storage: str) -> None:
    model, optimizer, sparsifier = trained(storage)
    state = sparsifier.state_dict()
    before = frozen(state)
    go_on(model, optimizer, sparsifier, steps=3)
    for weight in sparsifier.weights:
        weight.closed_rows |= True

    assert frozen(state) == before


def other_models(storage: str) -> dict[str, nn.Sequential]:
    sparsity = 0.0 if storage == "masked" else 0.5
    settings: dict[str, Any] = {"sparsity": sparsity, "budget": budgets.uniform, "generator": seeded()}
    wide = mlp([6, 9, 4], **settings)
    deep = mlp([6, 8, 8, 4], **settings)
    renamed = nn.Sequential(nn.Identity(), *mlp([6, 8, 4], **settings))
    return {"wide": wide.double(), "deep": deep.double(), "renamed": renamed.double()}


@both
@pytest.mark.parametrize("name", ["wide", "deep", "renamed"])
def test_the_state_of_another_model_is_refused_with_nothing_changed(storage: str, name: str) -> None:
    _, _, sparsifier = trained(storage)
    before = frozen(sparsifier.state_dict())
    theirs = trained(storage, other_models(storage)[name], steps=1)[2].state_dict()
    with pytest.raises(ValueError, match="the saved sparsifier is of another model: it has"):
        sparsifier.load_state_dict(theirs)

    assert frozen(sparsifier.state_dict()) == before


def test_the_state_of_the_other_storage_is_refused_with_nothing_changed() -> None:
    sparse = SparseLinear(4, 3, sparsity=0.5, generator=seeded())
    dense = nn.Linear(4, 3)
    one = Sparsifier(views_named(sparse, "w"), SGD(sparse.parameters(), lr=0.1), updates=[], generator=seeded())
    two = Sparsifier(views_named(dense, "w"), SGD(dense.parameters(), lr=0.1), updates=[], generator=seeded())
    for mine, theirs in ((one, two), (two, one)):
        before = frozen(mine.state_dict())

        with pytest.raises(ValueError, match="w is masked on one side and truly sparse on the other"):
            mine.load_state_dict(theirs.state_dict())
        assert frozen(mine.state_dict()) == before


@both
def test_finalize_leaves_ordinary_modules_with_their_zeros(storage: str) -> None:
    keys = list(network(storage).state_dict())
    model, optimizer, sparsifier = trained(storage)
    during = list(model.state_dict())
    sparsifier.finalize()

    assert list(model.state_dict()) == during == keys
    assert [type(module) for module in model] == [type(module) for module in network(storage)]
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert not any(parameter._backward_hooks for parameter in model.parameters())
    assert not optimizer._optimizer_step_post_hooks
    if storage == "masked":
        assert not inactive_of(sparsifier).any()
        assert sum(int(layer.count_nonzero()) for layer in model.parameters() if layer.dim() == 2) <= 40
    backward(model)
    optimizer.step()


@both
@pytest.mark.parametrize("copier", [copy.deepcopy, pickled, saved], ids=["deepcopy", "pickle", "torch.save"])
def test_a_model_can_be_copied_while_it_is_made_sparse(
    storage: str, copier: Callable[[nn.Sequential], nn.Sequential]
) -> None:
    model, optimizer, sparsifier = trained(storage)
    backward(model, seed=9)
    twin = copier(model)
    inputs = torch.randn(5, 6, generator=seeded(3), dtype=torch.float64)

    assert torch.equal(twin(inputs), model(inputs))
    # What the copy does is no business of the original, and it takes a sparsifier of its own.
    before = topology_of(sparsifier)
    go_on(twin, held := SGD(twin.parameters(), lr=0.5), rigl_of(twin, held, storage))
    assert topology_of(sparsifier) == before
    optimizer.step()
    assert len(sparsifier.step()) == 2


@both
def test_a_copy_records_nothing_for_the_original(storage: str) -> None:
    topologies = []
    for copied in (False, True):
        model, optimizer, sparsifier = trained(storage)
        optimizer.zero_grad()
        if copied:
            backward(copy.deepcopy(model), seed=77)
        go_on(model, optimizer, sparsifier, steps=1)
        topologies.append(topology_of(sparsifier))

    assert topologies[0] == topologies[1]
