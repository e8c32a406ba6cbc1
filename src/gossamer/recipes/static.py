"""Static: a random topology that never changes, the control of every dynamic method."""

import torch
from torch import nn
from torch.optim import Optimizer

from gossamer import budgets
from gossamer.recipes.start import sparse_start
from gossamer.sparsifier import Sparsifier


def static(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    generator: torch.Generator,
    sparsity: float | None = None,
    budget: budgets.Budget = budgets.erk,
) -> Sparsifier:
    """Train a network whose topology is drawn once.

    Args:
        model: truly sparse, or dense (then weights are masked).
        optimizer: holds the model's parameters.
        generator: source of randomness, on the CPU.
        sparsity: fraction of the dense weights to remove, in [0, 1); None for a truly sparse model.
        budget: splits what is kept over the dense weights.

    Raises:
        ValueError: dense weights without a sparsity, a sparsity that has no effect, or an unfit optimizer.

    Source:
        Mocanu, Mocanu, Nguyen, Gibescu, Liotta. A topological insight into restricted Boltzmann machines. Machine
        Learning 104, 2016, arXiv:1604.05978.
    """
    weights = sparse_start(model, optimizer, sparsity=sparsity, budget=budget, generator=generator)
    return Sparsifier(weights, optimizer, updates=[], generator=generator)
