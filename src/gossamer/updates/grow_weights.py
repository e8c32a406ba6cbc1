"""Absent weights come into being and none goes: a network that grows."""

from dataclasses import dataclass

import torch
from torch.optim import Optimizer

from gossamer import counts
from gossamer.updates.change import Change, Periodic
from gossamer.updates.exchange import Grow
from gossamer.weights import Weight, num_open


@dataclass(frozen=True, kw_only=True)
class GrowWeights(Periodic):
    """Activate absent weights, at zero, as a fraction of those that are active.

    Attributes:
        grow: (weight, kept indices, count, generator) -> indices to activate.
        grow_fraction: of the active weights, in [0, 1]; how many come at each update, rounded down, as long as there
            is room.
        start_step, stop_step, update_every: the update acts at start_step, every update_every steps after it, and at
            stop_step.
        uses_gradient: whether `grow` reads the dense gradient.
    """

    grow: Grow
    grow_fraction: float
    uses_gradient: bool = False

    def __post_init__(self) -> None:
        """Check what can be checked before training."""
        super().__post_init__()
        counts.check_fraction(self.grow_fraction, name="grow_fraction")

    def apply(
        self, weight: Weight, weights: list[Weight], step: int, *, optimizer: Optimizer, generator: torch.Generator
    ) -> Change:
        """Grow weights of one tensor."""
        active, indices = weight.num_active, weight.indices()
        room = max(0, num_open(weight) - active)
        count = min(room, counts.num_dropped(active, self.grow_fraction))
        if count:
            grown = self.grow(weight, indices, count, generator)
            kept = torch.arange(active, device=indices.device)
            weight.change_(kept, grown, torch.zeros(grown.shape, device=grown.device), optimizer)
        return Change(weight.name, 0, count)
