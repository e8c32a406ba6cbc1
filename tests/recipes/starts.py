"""How recipes are started whose arguments are not those of most others."""

from collections.abc import Callable

import torch
from torch import nn
from torch.optim import Optimizer

from gossamer import Sparsifier, budgets, recipes


def from_dense(recipe: Callable[..., Sparsifier], **settings: object) -> Callable[..., Sparsifier]:
    """Return a start that draws nothing and takes its sparsity, if any, from the settings, in either storage."""

    def start(model: nn.Module, optimizer: Optimizer, *, generator: object, sparsity: float | None) -> Sparsifier:
        return recipe(model, optimizer, **settings)

    return start


def drawing(recipe: Callable[..., Sparsifier], **settings: object) -> Callable[..., Sparsifier]:
    """Return such a start that draws."""

    def start(
        model: nn.Module, optimizer: Optimizer, *, generator: torch.Generator, sparsity: float | None
    ) -> Sparsifier:
        return recipe(model, optimizer, generator=generator, **settings)

    return start


def granet_from_sparse(
    model: nn.Module, optimizer: Optimizer, *, generator: torch.Generator, sparsity: float | None
) -> Sparsifier:
    """Start granet at the sparsity of the network, in either storage, and end at 0.8."""
    return recipes.granet(
        model,
        optimizer,
        sparsity=0.8,
        start_sparsity=sparsity,
        start_step=2,
        stop_step=11,
        update_every=3,
        budget=budgets.uniform,
        generator=generator,
    )
