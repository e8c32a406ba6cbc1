"""How a recipe finds the weights of a model and where they start."""

from collections.abc import Callable

import torch
from torch import nn
from torch.optim import Optimizer

from gossamer import budgets, masks
from gossamer.sparsifier import check_optimizer
from gossamer.weights import MaskedWeight, SparseWeight, prunable

Weights = list[MaskedWeight | SparseWeight]
# (shape, num_active, generator=...) -> mask
Draw = Callable[..., torch.Tensor]


def sparse_start(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    sparsity: float | None,
    budget: budgets.Budget,
    generator: torch.Generator,
    rescale: bool = True,
    draw: Draw = masks.draw,
) -> Weights:
    """Return the prunable weights, dense ones masked at random down to the asked sparsity.

    Args:
        model: dense, truly sparse or mixed.
        optimizer: checked before anything is changed.
        sparsity: fraction of the dense weights to remove, in [0, 1). None for a model that is truly sparse already;
            what is dense in it, such as a small output layer, then stays dense.
        budget: splits what is kept over the dense weights.
        generator: source of randomness, on the CPU.
        rescale: whether to multiply each output's surviving weights by sqrt(fan-in / live fan-in), which keeps the
            scale of the signal that the dense first values had.
        draw: (shape, number of active weights, generator=...) -> mask of a dense weight.

    Raises:
        ValueError: only dense weights and no sparsity, a sparsity and no dense weight, or an unfit optimizer.
    """
    weights = prunable(model)
    check_optimizer(weights, optimizer)
    dense = [weight for weight in weights if isinstance(weight, MaskedWeight)]
    if len(dense) == len(weights) and sparsity is None:
        raise ValueError(f"{dense[0].name} is dense; say how sparse to make it, such as sparsity=0.95")
    if sparsity is not None and not dense:
        raise ValueError(
            f"sparsity={sparsity} has no effect: every weight is truly sparse already; leave it out, "
            "or give it where the model is made"
        )
    if sparsity is not None:
        kept = budget({weight.name: weight.shape for weight in dense}, sparsity=sparsity)
        for weight in dense:
            weight.set_mask_(draw(weight.shape, kept[weight.name], generator=generator))
            if rescale:
                weight.parameter.data.mul_(masks.fan_in_scale(weight.mask).to(weight.parameter.dtype))
    return weights


def dense_start(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    because: str = "this method lets dropped weights come back as a dense network has them",
) -> list[MaskedWeight]:
    """Return the prunable weights of a model for a method that has no truly sparse form.

    Args:
        model: dense.
        optimizer: checked before anything is changed.
        because: why not, as the error says it.

    Raises:
        ValueError: a weight is truly sparse, or an unfit optimizer.
    """
    weights = prunable(model)
    for weight in weights:
        if isinstance(weight, SparseWeight):
            raise ValueError(
                f"{weight.name} is truly sparse, but {because}; start from a dense model, such as gs.to_dense(model)"
            )
    check_optimizer(weights, optimizer)
    return [weight for weight in weights if isinstance(weight, MaskedWeight)]
