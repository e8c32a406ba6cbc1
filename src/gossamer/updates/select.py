"""Which entries of a weight are the best of it, or of the whole model, at a sparsity."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from gossamer import counts
from gossamer.budgets import Budget
from gossamer.masks import keep_largest
from gossamer.weights import Weight, numel

W = TypeVar("W", bound=Weight)


def keep_best(
    weight: W, weights: list[W], *, score: Callable[[W], Tensor], sparsity: float, budget: Budget | None
) -> Tensor:
    """Mark the entries of one weight that stay.

    Args:
        weight: one of the weights.
        weights: all among which the budget is split, or that compete.
        score: weight -> scores of the entries that compete, shape [*], larger = keep.
        sparsity: fraction of the dense weights to remove; 0 or less: all stay.
        budget: splits what is kept over the weights; None: all compete with one another, and a weight may lose all.

    Returns:
        Mask of the scores of `weight`, bool, shape [*]. Weights that were cut down already do not change what the
        others keep: what is the best of all is the best of what is left too.

    Cost: without a budget O(all scores) for each weight.
    """
    if sparsity <= 0.0:
        return torch.ones_like(score(weight), dtype=torch.bool)
    if budget is not None:
        shapes = {other.name: other.shape for other in weights}
        scores = score(weight)
        return keep_largest(scores, min(scores.numel(), budget(shapes, sparsity=sparsity)[weight.name]))
    parts = [score(other) for other in weights]
    joined = torch.cat([part.flatten().to(parts[0].device) for part in parts])
    total = counts.num_active(sum(numel(other) for other in weights), sparsity)
    kept = keep_largest(joined, min(total, joined.numel())).split([part.numel() for part in parts])
    here = next(place for place, other in enumerate(weights) if other is weight)
    mask: Tensor = kept[here].view_as(parts[here])
    return mask.to(parts[here].device)


def open_places(weight: Weight) -> Tensor:
    """Return which entries are in no closed row and no closed column: bool, the weight's shape."""
    is_open: Tensor = ~weight.closed_rows[:, None] & ~weight.closed_columns
    return is_open.view(weight.shape)
