"""DSD: dense, sparse, and dense again, as a regularizer."""

import torch
from torch import nn
from torch.optim import Optimizer

from gossamer import budgets, criteria
from gossamer.recipes.start import dense_start
from gossamer.sparsifier import Sparsifier
from gossamer.updates import Alternate


def dsd(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    sparsity: float,
    start_step: int,
    stop_step: int,
    budget: budgets.Budget = budgets.uniform,
) -> Sparsifier:
    """Train dense, then only the largest weights, then all again from zero. THE RESULT IS DENSE.

    The sparse phase moves the network to another place from which dense training goes on; it makes nothing smaller.
    Finalized between start_step and stop_step, the network is a sparse one.

    Args:
        model: dense; weights are masked in the sparse phase.
        optimizer: holds the model's parameters.
        sparsity: fraction removed in the sparse phase, in [0, 1); the paper takes 0.25 to 0.5.
        start_step: the sparse phase begins after this step, >= 1.
        stop_step: the last, dense phase begins after this step, > start_step. The paper goes on with a tenth of the
            learning rate.
        budget: splits what is kept over the weights; the paper takes the same sparsity for each.

    Raises:
        ValueError: a weight is truly sparse, sparsity outside [0, 1), steps out of order, or an unfit optimizer.

    Source:
        Han et al. DSD: dense-sparse-dense training for deep neural networks. ICLR 2017, arXiv:1607.04381.
    """
    update = Alternate(
        drop=criteria.magnitude,
        sparsity=sparsity,
        budget=budget,
        compress_steps=(start_step,),
        open_steps=(stop_step,),
    )
    # Nothing here is random.
    return Sparsifier(dense_start(model, optimizer), optimizer, updates=[update], generator=torch.Generator())
