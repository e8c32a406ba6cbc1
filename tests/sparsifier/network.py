"""A small network in either storage, and batches to train it on."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer import Sparsifier, budgets, recipes
from gossamer.models import mlp
from gossamer.weights import MaskedWeight

STORAGES = ["masked", "truly sparse"]
SPARSITY = {"masked": 0.5, "truly sparse": None}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(storage: str, seed: int = 0) -> nn.Sequential:
    """Return a float64 network of two layers, dense where masks are to come."""
    sparsity = 0.0 if storage == "masked" else 0.5
    model = mlp([6, 8, 4], sparsity=sparsity, budget=budgets.uniform, generator=seeded(seed))
    return model.double()


def rigl_of(model: nn.Module, optimizer: Optimizer, storage: str, *, update_every: int = 1) -> Sparsifier:
    return recipes.rigl(
        model, optimizer, stop_step=50, update_every=update_every, generator=seeded(), sparsity=SPARSITY[storage]
    )


def static_of(model: nn.Module, optimizer: Optimizer, storage: str) -> Sparsifier:
    return recipes.static(model, optimizer, generator=seeded(), sparsity=SPARSITY[storage])


def backward(model: nn.Module, *, seed: int = 1, rows: int = 8) -> Tensor:
    """Run one batch backward and return its loss."""
    inputs = torch.randn(rows, 6, generator=seeded(seed), dtype=torch.float64)
    loss: Tensor = model(inputs).pow(2).mean()
    loss.backward()
    return loss.detach()


def topology_of(sparsifier: Sparsifier) -> list[list[int]]:
    return [weight.indices().tolist() for weight in sparsifier.weights]


def frozen(state: Any) -> Any:
    """Return a state with lists for tensors: a copy that can be compared."""
    if isinstance(state, Tensor):
        return state.tolist()
    return {key: frozen(value) for key, value in state.items()} if isinstance(state, dict) else state


def inactive_of(sparsifier: Sparsifier) -> Tensor:
    """Return the values of everything that is masked, in one vector."""
    masked = [weight for weight in sparsifier.weights if isinstance(weight, MaskedWeight)]
    return torch.cat([weight.parameter.detach()[~weight.mask] for weight in masked])
