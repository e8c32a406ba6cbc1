"""SET: drop what is nearest zero, grow at random."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer import budgets, criteria, growth, schedules
from gossamer.recipes.start import sparse_start
from gossamer.sparsifier import Sparsifier
from gossamer.updates import Exchange, by_sign
from gossamer.weights import Weight


def set_(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    update_every: int,
    stop_step: int,
    generator: torch.Generator,
    sparsity: float | None = None,
    drop_fraction: float = 0.3,
    budget: budgets.Budget = budgets.er,
) -> Sparsifier:
    """Train sparse from the start: drop the positive and the negative weights nearest zero, grow others at random.

    Args:
        model: truly sparse, or dense (then weights are masked).
        optimizer: holds the model's parameters.
        update_every: steps between two updates; the paper takes one epoch.
        stop_step: the last update comes before this step; the paper leaves out the last epoch.
        generator: source of randomness, on the CPU.
        sparsity: fraction of the dense weights to remove, in [0, 1); None for a truly sparse model.
        drop_fraction: zeta, fraction of the positive and, separately, of the negative weights, in [0, 1].
        budget: splits what is kept over the dense weights.

    Raises:
        ValueError: dense weights without a sparsity, a sparsity that has no effect, or an unfit optimizer.

    Source:
        Mocanu et al. Scalable training of artificial neural networks with adaptive sparse connectivity inspired by
        network science. Nature Communications 2018, arXiv:1707.04780.
        Differs: grown weights are drawn uniformly in +-sqrt(6 / in_features), as in the code of Truly Sparse (there the
        first ones too; drawn with the live fan-in they are so large that they upset what was learned), not from
        N(0, 0.1^2); an exact number of weights; a layer that is dense, such as a small output layer, stays as it is,
        and an output layer that is sparse evolves like the others, which the authors leave alone.
    """
    update = set_update(update_every=update_every, stop_step=stop_step, drop_fraction=drop_fraction)
    weights = sparse_start(model, optimizer, sparsity=sparsity, budget=budget, generator=generator)
    return Sparsifier(weights, optimizer, updates=[update], generator=generator)


def set_update(*, update_every: int, stop_step: int, drop_fraction: float) -> Exchange:
    """Return the update rule of SET; see `set_` for the arguments."""
    return Exchange(
        drop=criteria.magnitude,
        groups=by_sign,
        grow=grow_at_random,
        first_values=_draw_small,
        drop_fraction=schedules.constant(drop_fraction),
        update_every=update_every,
        stop_step=stop_step,
    )


def grow_at_random(weight: Weight, kept: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Grow anywhere, see `Exchange`."""
    return growth.random(kept, weight.closed_rows, weight.closed_columns, count=count, generator=generator)


def _draw_small(weight: Weight, indices: Tensor, grown: Tensor, generator: torch.Generator) -> Tensor:
    columns = weight.closed_columns.numel()
    # As if removed inputs were gone from the tensor: a smaller layer draws the same.
    open_columns = int((~weight.closed_columns).sum())
    dense_fan_in = torch.full((weight.shape[0],), open_columns, device=grown.device)
    return growth.fan_in_uniform(grown // columns, dense_fan_in, generator=generator)
