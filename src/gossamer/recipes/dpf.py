"""DPF: dynamic pruning with feedback."""

import torch
from torch import nn
from torch.optim import Optimizer

from gossamer import budgets, counts, criteria, schedules
from gossamer.recipes.start import dense_start
from gossamer.sparsifier import Sparsifier
from gossamer.updates import Reselect


def dpf(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    sparsity: float,
    full_step: int,
    stop_step: int,
    start_step: int = 0,
    update_every: int = 16,
    budget: budgets.Budget | None = None,
) -> Sparsifier:
    """Take the gradient at the pruned network, apply it to the dense one, and prune that anew every few steps.

    m_t = largest |w_t|;  w_{t+1} = w_t - lr g(m_t w_t)
    sparsity(t) = s (1 - (1 - (t - start_step) / (full_step - start_step))^3)

    A weight that was pruned by mistake goes on learning out of sight and comes back when it has become large.

    Args:
        model: dense; its weights are masked.
        optimizer: holds the model's parameters; it moves hidden weights too, weight decay and momentum included.
        sparsity: fraction removed in the end, in [0, 1).
        full_step: step from which the network is as sparse as that, > start_step.
        stop_step: step at which weights are chosen for the last time, >= full_step.
        start_step: step from which weights are hidden, >= 0.
        update_every: steps between two choices.
        budget: splits what is kept over the weights. None: all weights compete with one another.

    Raises:
        ValueError: a weight is truly sparse, sparsity outside [0, 1), steps out of order, or an unfit optimizer.

    Source:
        Lin, Stich, Barba, Dmitriev, Jaggi. Dynamic model pruning with feedback. ICLR 2020, arXiv:2006.07253.

    Cost: the memory of one more dense copy.
    """
    if stop_step < full_step:
        raise ValueError(f"stop_step must be {full_step} (full_step) or more, got {stop_step}; the end would be denser")
    update = Reselect(
        drop=criteria.magnitude,
        sparsity=schedules.cubic(0.0, counts.check_sparsity(sparsity), start_step=start_step, stop_step=full_step),
        budget=budget,
        start_step=start_step,
        stop_step=stop_step,
        update_every=update_every,
    )
    weights = dense_start(model, optimizer)
    for weight in weights:
        weight.keep_latent_(trained=True)
    return Sparsifier(weights, optimizer, updates=[update], generator=torch.Generator())
