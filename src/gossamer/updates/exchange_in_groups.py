"""Exchange within groups: what a group of inputs loses it grows back, so that each keeps its number."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from gossamer import counts, growth, ranking
from gossamer.masks import keep_largest
from gossamer.schedules import Schedule
from gossamer.updates.change import Change
from gossamer.weights import Weight, num_open


@dataclass(frozen=True, kw_only=True)
class ExchangeInGroups:
    """Drop the smallest of a whole weight, and grow in each group of each row as many as it lost, by the gradient.

    Grown weights start at zero; one that is dropped and grown in the same update stays as it was, state and all.

    Attributes:
        drop: criterion of the active values; the smallest scores are dropped.
        groups: shape of the weight -> group of each column, shape [columns], int64; None: that weight stays as it is.
        drop_fraction: schedule of the fraction of the active weights that is exchanged, values in [0, 1].
        update_every: steps between two updates, >= 1.
        stop_step: the last update comes before this step.
    """

    drop: Callable[[Tensor], Tensor]
    groups: Callable[[tuple[int, ...]], Tensor | None]
    drop_fraction: Schedule
    update_every: int
    stop_step: int

    def __post_init__(self) -> None:
        """Check what can be checked before training."""
        check_exchange(self.drop_fraction, self.update_every, self.stop_step)

    @property
    def uses_gradient(self) -> bool:
        """True: it says where weights grow."""
        return True

    def due(self, step: int) -> bool:
        """Return whether the update acts after this optimizer step."""
        return 0 < step < self.stop_step and step % self.update_every == 0

    def apply(
        self, weight: Weight, weights: list[Weight], step: int, *, optimizer: Optimizer, generator: torch.Generator
    ) -> Change:
        """Exchange weights of one tensor; a tensor with no place left to grow stays as it is."""
        groups = self.groups(weight.shape)
        if groups is None or weight.num_active >= num_open(weight):
            return Change(weight.name, 0, 0)
        groups = groups.to(weight.parameter.device)
        survives = survivors(weight, self.drop, self.drop_fraction(step))
        num_groups = int(groups.max()) + 1
        lost = group_of(weight.indices()[~survives], groups).bincount(minlength=weight.shape[0] * num_groups)
        return regrow_(weight, survives, groups, lost.view(weight.shape[0], num_groups), optimizer)


def check_exchange(drop_fraction: Schedule, update_every: int, stop_step: int) -> None:
    """Raise unless the settings of an exchange lie in their ranges.

    Raises:
        ValueError: one does not.
    """
    counts.check_positive(update_every, name="update_every")
    counts.check_positive(stop_step, name="stop_step")
    counts.check_fraction(drop_fraction(0), name="drop_fraction")


def group_of(indices: Tensor, groups: Tensor) -> Tensor:
    """Return in which group of which row entries are: row * number of groups + group.

    Args:
        indices: linear, shape [n], int64.
        groups: of each column, shape [columns], int64, one column or more.
    """
    columns = groups.numel()
    return indices // columns * (int(groups.max()) + 1) + groups[indices % columns]


def survivors(weight: Weight, drop: Callable[[Tensor], Tensor], drop_fraction: float) -> Tensor:
    """Mark which active values of a weight stay when a fraction of all of them is dropped: bool, shape [num_active]."""
    scores = drop(weight.values())
    return keep_largest(scores, scores.numel() - counts.num_dropped(scores.numel(), drop_fraction))


def keep_in_groups(scores: Tensor, groups: Tensor, limits: Tensor) -> Tensor:
    """Mark the largest scores of each group; of equal ones the first.

    Args:
        scores: larger = keep, shape [n].
        groups: of each score, shape [n], int64.
        limits: how many of a group are marked at most, shape [number of groups].

    Returns:
        Mask, bool, shape [n].

    Example:
        >>> keep_in_groups(torch.tensor([1.0, 3.0, 3.0, 2.0]), torch.tensor([0, 0, 0, 1]), torch.tensor([1, 2]))
        tensor([False,  True, False,  True])
    """
    order = scores.argsort(descending=True, stable=True)
    order = order[groups[order].argsort(stable=True)]
    sizes = groups.bincount(minlength=limits.numel())
    rank = torch.arange(groups.numel(), device=groups.device) - (sizes.cumsum(0) - sizes)[groups[order]]
    marked = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    marked[order] = rank < limits[groups[order]]
    return marked


def regrow_(weight: Weight, survives: Tensor, groups: Tensor, missing: Tensor, optimizer: Optimizer) -> Change:
    """Grow what is missing in each group by the gradient, at zero; what is dropped and grown at once stays as it was.

    Args:
        weight: changed.
        survives: which active values stay, bool, shape [num_active].
        groups: of each column, shape [columns], int64.
        missing: how many grow in each group, shape [rows, groups], int64.
        optimizer: holds the weight.

    Raises:
        ValueError: the gradient holds NaN, or a group has no place for what it shall grow.
    """
    indices, active = weight.indices(), weight.num_active
    grown = growth.gradient_in_groups(
        weight.gradient_tiles(whole_rows=True),
        indices[ranking.places(survives)],
        weight.closed_rows,
        weight.closed_columns,
        groups=groups,
        counts=missing,
    )
    regrown = torch.isin(grown, indices)
    survives = survives.index_fill(0, torch.searchsorted(indices, grown[regrown]), True)
    kept, grown = ranking.places(survives), grown[~regrown]
    weight.change_(kept, grown, torch.zeros(grown.shape, device=grown.device), optimizer)
    return Change(weight.name, active - kept.numel(), grown.numel())
