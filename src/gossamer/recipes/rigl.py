"""RigL: drop the smallest weights, grow where the gradient is largest."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer import budgets, criteria, growth, schedules
from gossamer.recipes.start import sparse_start
from gossamer.sparsifier import Sparsifier
from gossamer.updates import Exchange
from gossamer.updates.exchange import Grow
from gossamer.weights import Weight


def rigl(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    stop_step: int,
    generator: torch.Generator,
    sparsity: float | None = None,
    update_every: int = 100,
    drop_fraction: float = 0.3,
    budget: budgets.Budget = budgets.erk,
) -> Sparsifier:
    """Train sparse from the start: drop small weights, grow where the dense gradient is large, ever fewer.

    fraction(t) = drop_fraction / 2 * (1 + cos(pi t / stop_step))

    Args:
        model: truly sparse, or dense (then weights are masked).
        optimizer: holds the model's parameters.
        stop_step: the last update comes before this step; the paper takes 75 % of the training.
        generator: source of randomness, on the CPU.
        sparsity: fraction of the dense weights to remove, in [0, 1); None for a truly sparse model.
        update_every: steps between two updates.
        drop_fraction: fraction exchanged at first, in [0, 1].
        budget: splits what is kept over the dense weights.

    Raises:
        ValueError: dense weights without a sparsity, a sparsity that has no effect, or an unfit optimizer.

    Source:
        Evci, Gale, Menick, Castro, Elsen. Rigging the Lottery: making all tickets winners. ICML 2020, arXiv:1911.11134.
        Differs: an update follows the optimizer step instead of replacing it; ties are broken by place, not by noise;
        the dense gradient is searched tile by tile and never stored for a truly sparse weight. As in the authors' code
        a weight dropped and grown in one update stays as it was, and new ones start at zero.
    """
    update = rigl_update(update_every=update_every, stop_step=stop_step, drop_fraction=drop_fraction)
    weights = sparse_start(model, optimizer, sparsity=sparsity, budget=budget, generator=generator)
    return Sparsifier(weights, optimizer, updates=[update], generator=generator)


def grow_by_gradient(weight: Weight, kept: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Grow where the dense gradient is largest, see `Exchange`."""
    return growth.gradient(weight.gradient_tiles(), kept, weight.closed_rows, weight.closed_columns, count=count)


def rigl_update(*, update_every: int, stop_step: int, drop_fraction: float, grow: Grow = grow_by_gradient) -> Exchange:
    """Return the update rule of RigL; see `rigl` for the arguments; `grow` may read the gradient."""
    return Exchange(
        drop=criteria.magnitude,
        grow=grow,
        drop_fraction=schedules.cosine(drop_fraction, 0.0, stop_step),
        update_every=update_every,
        stop_step=stop_step,
        keep_regrown=True,
        uses_gradient=True,
    )
