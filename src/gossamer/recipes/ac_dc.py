"""AC/DC: alternating compressed and decompressed training."""

import torch
from torch import nn
from torch.optim import Optimizer

from gossamer import budgets, criteria
from gossamer.recipes.start import dense_start
from gossamer.sparsifier import Sparsifier
from gossamer.updates import Alternate
from gossamer.updates.alternate import phases


def ac_dc(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    sparsity: float,
    start_step: int,
    stop_step: int,
    num_sparse_steps: int,
    num_dense_steps: int,
    budget: budgets.Budget | None = None,
) -> Sparsifier:
    """Alternate sparse and dense phases, the optimizer anew with each dense one; end sparse.

    Before the last compression the model is the dense one of a pair, in the end the sparse one.

    Args:
        model: dense; weights are masked in the sparse phases.
        optimizer: holds the model's parameters; in all of them its momentum goes when a dense phase begins.
        sparsity: fraction removed in the sparse phases and in the end, in [0, 1).
        start_step: the first sparse phase begins after this step, >= 1: the warm-up.
        stop_step: from here on the network stays sparse, > start_step; the paper leaves a seventh of the training.
        num_sparse_steps: length of a sparse phase; the paper takes five passes over the data.
        num_dense_steps: length of a dense phase, likewise.
        budget: splits what is kept over the weights. None, as in the paper: all weights compete with one another.

    Raises:
        ValueError: a weight is truly sparse, sparsity outside [0, 1), steps out of order, or an unfit optimizer.

    Source:
        Peste, Iofinova, Vladu, Alistarh. AC/DC: alternating compressed/decompressed training of deep neural networks.
        NeurIPS 2021, arXiv:2106.12379.
        Differs: phases keep their rhythm up to stop_step; the paper makes the last dense one longer.
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
        reset_state=True,
    )
    return Sparsifier(dense_start(model, optimizer), optimizer, updates=[update], generator=torch.Generator())
