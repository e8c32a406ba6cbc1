"""Drop some active weights and grow as many absent ones: one step of dynamic sparse training."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from gossamer import counts, ranking, topology
from gossamer.masks import keep_largest
from gossamer.schedules import Schedule
from gossamer.updates.change import Change
from gossamer.weights import Weight, num_open

Grow = Callable[[Weight, Tensor, int, torch.Generator], Tensor]
EMPTIES = (
    "drop_fraction={fraction} would drop every weight of a layer and grow others at zero, which leaves it empty; "
    "it must lie below 1, or give first_values"
)
FirstValues = Callable[[Weight, Tensor, Tensor, torch.Generator], Tensor]


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """Drop and grow the same number in each weight, so that every weight keeps its count.

    Attributes:
        drop: criterion of the active values; the smallest scores are dropped.
        grow: (weight, kept indices, count, generator) -> indices to activate.
        drop_fraction: schedule of the fraction of the active weights that is exchanged, values in [0, 1]; below 1 where
            grown weights start at zero, as nothing would be left of the layer.
        update_every: steps between two updates, >= 1.
        stop_step: the last update comes before this step.
        groups: active values -> group of each, shape [n], int64; the fraction is dropped in each group by itself.
            Default: all compete.
        first_values: (weight, indices after the update, grown indices, generator) -> values of the grown; default: 0.
        keep_regrown: whether a weight that is dropped and grown in the same update stays as it was, state and all.
        uses_gradient: whether `grow` reads the dense gradient.
        start_step: updates come at this step and every update_every steps after it; at 0 there is nothing to do yet.
    """

    drop: Callable[[Tensor], Tensor]
    grow: Grow
    drop_fraction: Schedule
    update_every: int
    stop_step: int
    groups: Callable[[Tensor], Tensor] | None = None
    first_values: FirstValues | None = None
    keep_regrown: bool = False
    uses_gradient: bool = False
    start_step: int = 0

    def __post_init__(self) -> None:
        """Check what can be checked before training."""
        counts.check_positive(self.update_every, name="update_every")
        counts.check_positive(self.stop_step, name="stop_step")
        fraction = counts.check_fraction(self.drop_fraction(0), name="drop_fraction")
        if fraction == 1.0 and self.first_values is None:
            raise ValueError(EMPTIES.format(fraction=fraction))

    def due(self, step: int) -> bool:
        """Return whether the update acts after this optimizer step."""
        return max(1, self.start_step) <= step < self.stop_step and (step - self.start_step) % self.update_every == 0

    def apply(
        self, weight: Weight, weights: list[Weight], step: int, *, optimizer: Optimizer, generator: torch.Generator
    ) -> Change:
        """Exchange weights of one tensor; a tensor with no place left to grow stays as it is."""
        active, indices = weight.num_active, weight.indices()
        # More than that where entries that stay zero stand in a closed row, as of an embedding's padding.
        if active >= num_open(weight):
            return Change(weight.name, 0, 0)
        fraction = self.drop_fraction(step)
        if active and counts.num_dropped(active, fraction) == active and self.first_values is None:
            raise ValueError(EMPTIES.format(fraction=fraction))
        survives = self._survivors(weight.values(), fraction)
        kept = ranking.taken(indices, survives)
        grown = self.grow(weight, kept, active - kept.numel(), generator)
        if self.keep_regrown:
            grown = spare_(survives, indices, grown)
            kept = ranking.taken(indices, survives)
        values = self._values(weight, kept, grown, generator)
        # A list as long as the weight, which the change would hold beside its own.
        del indices, kept
        kept_slots = ranking.places(survives)
        weight.change_(kept_slots, grown, values, optimizer)
        return Change(weight.name, active - kept_slots.numel(), grown.numel())

    def _survivors(self, values: Tensor, drop_fraction: float) -> Tensor:
        scores = self.drop(values)
        if self.groups is None:
            return keep_largest(scores, _num_kept(scores.numel(), drop_fraction))
        group = self.groups(values)
        survives = torch.zeros_like(values, dtype=torch.bool)
        for number in _numbers(group):
            members = group == number
            kept = _num_kept(int(members.count_nonzero()), drop_fraction)
            survives |= keep_largest(scores, kept, competes=members)
        return survives

    def _values(self, weight: Weight, kept: Tensor, grown: Tensor, generator: torch.Generator) -> Tensor:
        if self.first_values is None:
            return torch.zeros(grown.shape, device=grown.device)
        return self.first_values(weight, torch.cat([kept, grown]), grown, generator)


def _num_kept(size: int, drop_fraction: float) -> int:
    return size - counts.num_dropped(size, drop_fraction)


def _numbers(group: Tensor) -> list[int]:
    """The groups that there are; few and small ones, such as signs, without a sort."""
    if group.numel() and int(group.min()) >= 0 and int(group.max()) < 64:
        return [number for number, size in enumerate(group.bincount().tolist()) if size]
    found: list[int] = group.unique().tolist()
    return found


def spare_(survives: Tensor, indices: Tensor, grown: Tensor) -> Tensor:
    """Let what is dropped and grown at once survive instead.

    Args:
        survives: which active entries stay, bool, shape [n]; changed.
        indices: their linear indices, ascending, shape [n].
        grown: linear indices to activate, ascending.

    Returns:
        What of `grown` is new.
    """
    slots = topology.slots_of(grown, indices)
    regrown = slots >= 0
    survives[slots[regrown]] = True
    return ranking.taken(grown, ~regrown)


def by_sign(values: Tensor) -> Tensor:
    """Group values by their sign: 1 for negative ones, 0 for the others; shape [n], int64.

    Example:
        >>> by_sign(torch.tensor([0.5, -0.1, 0.0]))
        tensor([0, 1, 0])
    """
    return (values < 0).long()
