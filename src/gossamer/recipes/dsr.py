"""DSR: drop below a threshold that adapts, grow at random where most survive."""

import torch
from torch import nn
from torch.optim import Optimizer

from gossamer import budgets
from gossamer.recipes.set_ import grow_at_random
from gossamer.recipes.start import sparse_start
from gossamer.sparsifier import Sparsifier
from gossamer.updates import Threshold


def dsr(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    update_every: int,
    stop_step: int,
    drop_fraction: float,
    generator: torch.Generator,
    sparsity: float | None = None,
    threshold: float = 1e-3,
    tolerance: float = 0.1,
    budget: budgets.Budget = budgets.uniform,
) -> Sparsifier:
    """Train sparse from the start: one threshold for all layers, and what it drops grows where most survived it.

    drop |w| < H; grow as many at random, in each layer in proportion to its survivors, at zero
    H <- 2 H where too few were dropped, H / 2 where too many

    Args:
        model: truly sparse, or dense (then weights are masked).
        optimizer: holds the model's parameters.
        update_every: steps between two updates; the paper: 100 to 8,000, more for larger networks.
        stop_step: the last update comes before this step.
        drop_fraction: fraction of all active weights that an update should drop, in [0, 1].
        generator: source of randomness, on the CPU.
        sparsity: fraction of the dense weights to remove, in [0, 1); None for a truly sparse model.
        threshold: H at first, > 0.
        tolerance: by which fraction of it the number dropped may be off before H changes, in [0, 1].
        budget: splits what is kept over the dense weights at the start.

    Raises:
        ValueError: dense weights without a sparsity, a sparsity that has no effect, a setting out of range, or an unfit
            optimizer.

    Source:
        Mostafa, Wang. Parameter efficient training of deep convolutional neural networks by dynamic sparse
        reparameterization. ICML 2019, arXiv:1902.05967.
        Differs: the total is exact, by largest remainders; a layer that is full passes the rest on to the others, and
        each keeps its largest weight. What is to be dropped is a fraction, not a number.
    """
    update = Threshold(
        grow=grow_at_random,
        drop_fraction=drop_fraction,
        threshold=threshold,
        tolerance=tolerance,
        update_every=update_every,
        stop_step=stop_step,
    )
    weights = sparse_start(model, optimizer, sparsity=sparsity, budget=budget, generator=generator)
    return Sparsifier(weights, optimizer, updates=[update], generator=generator)
