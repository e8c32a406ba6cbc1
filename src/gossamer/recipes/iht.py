"""IHT: hard thresholding again and again, with dense training between."""

import torch
from torch import nn
from torch.optim import Optimizer

from gossamer import budgets, criteria
from gossamer.recipes.start import dense_start
from gossamer.sparsifier import Sparsifier
from gossamer.updates import Alternate
from gossamer.updates.alternate import phases


def iht(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    sparsity: float,
    start_step: int,
    stop_step: int,
    num_sparse_steps: int,
    num_dense_steps: int,
    restore_values: bool = True,
    budget: budgets.Budget = budgets.uniform,
) -> Sparsifier:
    """Alternate: keep the largest weights and train them alone; restore all and train the whole network.

    Args:
        model: dense; weights are masked in the sparse phases.
        optimizer: holds the model's parameters.
        sparsity: fraction removed in the sparse phases and in the end, in [0, 1).
        start_step: the first sparse phase begins after this step, >= 1.
        stop_step: from here on the network stays sparse, > start_step.
        num_sparse_steps: length of a sparse phase.
        num_dense_steps: length of a dense phase.
        restore_values: whether weights come back with the values that they had when they were dropped, which takes
            the memory of one more dense copy; else they come back at zero.
        budget: splits what is kept over the weights.

    Raises:
        ValueError: a weight is truly sparse, sparsity outside [0, 1), steps out of order, or an unfit optimizer.

    Source:
        Jin, Yuan, Feng, Yan. Training skinny deep neural networks with iterative hard thresholding methods. 2016,
        arXiv:1607.05423.
        Differs: an exact number of weights in every phase; the optimizer forgets what it knew of dropped weights.
    """
    compress_steps, open_steps = phases(
        start_step=start_step, stop_step=stop_step, num_sparse_steps=num_sparse_steps, num_dense_steps=num_dense_steps
    )
    update = Alternate(
        drop=criteria.magnitude,
        sparsity=sparsity,
        budget=budget,
        compress_steps=compress_steps,
        open_steps=open_steps,
    )
    weights = dense_start(model, optimizer)
    for weight in weights if restore_values else []:
        weight.keep_latent_(trained=False)
    return Sparsifier(weights, optimizer, updates=[update], generator=torch.Generator())
