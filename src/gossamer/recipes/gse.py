"""GSE: drop the smallest weights, grow the best of some absent ones that are drawn at random."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer import budgets, counts, growth
from gossamer.recipes.rigl import rigl_update
from gossamer.recipes.start import sparse_start
from gossamer.sparsifier import Sparsifier
from gossamer.updates.exchange import Grow
from gossamer.weights import Weight, numel


def gse(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    stop_step: int,
    generator: torch.Generator,
    sparsity: float | None = None,
    update_every: int = 1000,
    drop_fraction: float = 0.2,
    candidates_per_active: float = 1.0,
    budget: budgets.Budget = budgets.erk,
) -> Sparsifier:
    """Train sparse from the start: drop small weights, grow where the gradient is large among places drawn at random.

    No dense gradient is made or searched: an update takes no longer than the active weights and the candidates do.

    fraction(t) = drop_fraction / 2 * (1 + cos(pi t / stop_step))

    Args:
        model: truly sparse, or dense (then weights are masked).
        optimizer: holds the model's parameters.
        stop_step: the last update comes before this step; the paper takes 60 % of the training.
        generator: source of randomness, on the CPU.
        sparsity: fraction of the dense weights to remove, in [0, 1); None for a truly sparse model.
        update_every: steps between two updates.
        drop_fraction: fraction exchanged at first, in [0, 1].
        candidates_per_active: absent entries drawn for each active one, > 0; at least as many as grow.
        budget: splits what is kept over the dense weights.

    Raises:
        ValueError: dense weights without a sparsity, a sparsity that has no effect, no candidates, or an unfit
            optimizer.

    Source:
        Heddes, Srinivasa, Givargis, Nicolau. Always-sparse training by growing connections with guided stochastic
        exploration. 2024, arXiv:2401.06898; settings of the authors' code.
        Differs: candidates as `growth.guided` draws them, uniformly; each tensor keeps its count, where the authors
        let all tensors compete; a weight that is dropped and grown in one update stays as it was, and new ones start
        at zero, as in `rigl`.
    """
    if not candidates_per_active > 0.0:
        raise ValueError(f"candidates_per_active must be above 0, got {candidates_per_active}; 1.0 is the paper's")
    grow = _grow_guided(candidates_per_active)
    update = rigl_update(update_every=update_every, stop_step=stop_step, drop_fraction=drop_fraction, grow=grow)
    weights = sparse_start(model, optimizer, sparsity=sparsity, budget=budget, generator=generator)
    return Sparsifier(weights, optimizer, updates=[update], generator=generator)


def _grow_guided(candidates_per_active: float) -> Grow:
    def grow(weight: Weight, kept: Tensor, count: int, generator: torch.Generator) -> Tensor:
        return growth.guided(
            weight.gradient_at,
            kept,
            weight.closed_rows,
            weight.closed_columns,
            count=count,
            num_candidates=counts.nearest(candidates_per_active * weight.num_active, numel(weight)),
            generator=generator,
        )

    return grow
