"""GMP: gradual magnitude pruning of a dense network while it trains."""

import torch
from torch import nn
from torch.optim import Optimizer

from gossamer import budgets, counts, criteria, schedules
from gossamer.sparsifier import Sparsifier
from gossamer.updates import Shrink
from gossamer.weights import prunable


def gmp(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    sparsity: float,
    stop_step: int,
    start_step: int = 0,
    update_every: int = 100,
    budget: budgets.Budget = budgets.uniform,
) -> Sparsifier:
    """Remove the smallest weights, many at first and few at last, while the rest goes on learning.

    sparsity(t) = s (1 - (1 - (t - start_step) / (stop_step - start_step))^3)

    Args:
        model: dense (then weights are masked), or truly sparse (then memory and time fall as it shrinks).
        optimizer: holds the model's parameters.
        sparsity: fraction removed in the end, in [0, 1).
        stop_step: step of the last update, > start_step.
        start_step: step from which weights are removed, >= 0.
        update_every: steps between two updates.
        budget: splits what is kept over the weights; the paper takes the same sparsity for each.

    Raises:
        ValueError: sparsity outside [0, 1), an empty span of steps, or an unfit optimizer.

    Source:
        Zhu, Gupta. To prune, or not to prune: exploring the efficacy of pruning for model compression. 2017,
        arXiv:1710.01878.
    """
    update = Shrink(
        drop=criteria.magnitude,
        sparsity=schedules.cubic(0.0, counts.check_sparsity(sparsity), start_step=start_step, stop_step=stop_step),
        budget=budget,
        start_step=start_step,
        stop_step=stop_step,
        update_every=update_every,
    )
    # Nothing here is random.
    return Sparsifier(prunable(model), optimizer, updates=[update], generator=torch.Generator())
