"""SNFS: sparse momentum, sparse networks from scratch."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer import budgets, criteria, schedules
from gossamer.recipes.start import dense_start, sparse_start
from gossamer.sparsifier import Sparsifier
from gossamer.updates import Momentum, Redistribute
from gossamer.weights import Weight


def snfs(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    sparsity: float,
    update_every: int,
    stop_step: int,
    generator: torch.Generator,
    drop_fraction: float = 0.5,
    decay: float = 0.9,
    budget: budgets.Budget = budgets.uniform,
) -> Sparsifier:
    """Train sparse from the start: drop small weights, and grow where the momentum is large, in layers and in weights.

    share of a layer = mean |momentum| of its active weights, divided by the sum of that over the layers
    fraction(t) = drop_fraction / 2 * (1 + cos(pi t / stop_step))

    Args:
        model: dense; its weights are masked.
        optimizer: holds the model's parameters.
        sparsity: fraction of the weights to remove, in [0, 1).
        update_every: steps between two updates; the paper takes one epoch.
        stop_step: the last update comes before this step.
        generator: source of randomness, on the CPU.
        drop_fraction: fraction of each layer's active weights that is dropped at first, in [0, 1].
        decay: of the momentum, in [0, 1).
        budget: splits what is kept over the weights at the start.

    Raises:
        ValueError: a weight is truly sparse, a setting out of range, or an unfit optimizer.

    Source:
        Dettmers, Zettlemoyer. Sparse networks from scratch: faster training without losing performance. 2019,
        arXiv:1907.04840.
        Differs: the momentum is an average of the dense gradient of its own, whatever the optimizer keeps, and without
        weight decay. Where a layer is full, the rest of its share goes to the others in proportion. Masked weights
        alone: the momentum of absent weights takes the dense gradient of every step.

    Cost: the memory of one more dense copy, and the dense gradient of every step.
    """
    momentum = Momentum(decay=decay, stop_step=stop_step)
    exchange = Redistribute(
        drop=_magnitude,
        grow=momentum.grow,
        allot=momentum.allot,
        drop_fraction=schedules.cosine(drop_fraction, 0.0, stop_step),
        update_every=update_every,
        stop_step=stop_step,
    )
    dense_start(model, optimizer, because="this method takes the dense gradient of every step")
    weights = sparse_start(model, optimizer, sparsity=sparsity, budget=budget, generator=generator)
    return Sparsifier(weights, optimizer, updates=[momentum, exchange], generator=generator)


def _magnitude(weight: Weight) -> Tensor:
    return criteria.magnitude(weight.values())
