"""What stays when some active weights are dropped: in each weight by itself, or where all compete; none is emptied."""

from collections.abc import Callable

import torch
from torch import Tensor

from gossamer import counts, ranking
from gossamer.masks import keep_largest, keep_largest_of
from gossamer.weights import Weight

# (scores of the active entries of each weight, which of them may go, fraction to drop) -> which of them stay
Survive = Callable[[list[Tensor], list[Tensor], float], list[Tensor]]


def in_each(scores: list[Tensor], may_go: list[Tensor], drop_fraction: float) -> list[Tensor]:
    """Drop the same fraction of each weight, its smallest scores; the best that could go stays whatever the fraction.

    Args:
        scores: of the active entries of each weight, shape [num_active], larger = keep, no NaN.
        may_go: which of them may be dropped, bool, of the same shapes.
        drop_fraction: of the active entries, in [0, 1].

    Returns:
        Which stay, bool, of the same shapes.

    Raises:
        ValueError: a fraction outside [0, 1], or a score is NaN.

    Example:
        >>> in_each([torch.tensor([3.0, 1.0, 2.0])], [torch.tensor([True, True, True])], 1.0)
        [tensor([ True, False, False])]
    """
    return [_in_one(part, free, drop_fraction) for part, free in zip(scores, may_go, strict=True)]


def over_all(scores: list[Tensor], may_go: list[Tensor], drop_fraction: float) -> list[Tensor]:
    """Drop a fraction of all active weights, the smallest scores of the model; the best of each weight stays.

    Args:
        scores: as for `in_each`; they are compared with one another. Of equal scores those of the first weights stay.
        may_go: as for `in_each`.
        drop_fraction: of the active entries of all weights together, in [0, 1].

    Returns:
        Which stay, bool, of the same shapes.

    Raises:
        ValueError: a fraction outside [0, 1], or a score is NaN.

    Example:
        >>> free = torch.ones(2, dtype=torch.bool)
        >>> over_all([torch.tensor([9.0, 8.0]), torch.tensor([1.0, 2.0])], [free, free], 0.5)
        [tensor([ True, False]), tensor([False,  True])]
    """
    return keep_over_all(scores, may_go, counts.num_dropped(sum(part.numel() for part in scores), drop_fraction))


def keep_over_all(scores: list[Tensor], may_go: list[Tensor], num_dropped: int) -> list[Tensor]:
    """Drop so many of the smallest scores of the model, or as many as leave each weight its best.

    Args:
        scores: as for `over_all`.
        may_go: as for `over_all`.
        num_dropped: how many, >= 0.

    Returns:
        Which stay, bool, of the same shapes.

    Raises:
        ValueError: a score is NaN.
    """
    best = [keep_largest(part, min(1, _many(free)), competes=free) for part, free in zip(scores, may_go, strict=True)]
    ranked = [free & ~first for free, first in zip(may_go, best, strict=True)]
    total = sum(_many(mask) for mask in ranked)
    parts = {str(i): ranking.taken(part, mask) for i, (part, mask) in enumerate(zip(scores, ranked, strict=True))}
    marked = keep_largest_of(parts, total - min(total, num_dropped))
    return [
        ~free | first | ranking.spread(marked[str(i)], mask)
        for i, (free, first, mask) in enumerate(zip(may_go, best, ranked, strict=True))
    ]


def open_slots(weight: Weight, indices: Tensor) -> Tensor:
    """Return which entries stand in no closed row and no closed column.

    Args:
        weight: any.
        indices: linear indices, shape [n].

    Returns:
        Bool, shape [n].
    """
    if not (weight.closed_rows.any() or weight.closed_columns.any()):
        return torch.ones(indices.shape, dtype=torch.bool, device=indices.device)
    columns = max(1, weight.closed_columns.numel())
    is_open: Tensor = ~(weight.closed_rows[indices // columns] | weight.closed_columns[indices % columns])
    return is_open


def _in_one(scores: Tensor, may_go: Tensor, drop_fraction: float) -> Tensor:
    free = _many(may_go)
    gone = min(counts.num_dropped(scores.numel(), drop_fraction), max(0, free - 1))
    return ~may_go | keep_largest(scores, free - gone, competes=may_go)


def _many(mask: Tensor) -> int:
    return int(mask.count_nonzero())
