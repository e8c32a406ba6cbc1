"""Grow beyond the count, let the new weights learn, and drop back to it before the next growth."""

from collections.abc import Callable, Mapping
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from gossamer import counts, ranking
from gossamer.masks import keep_largest
from gossamer.schedules import Schedule
from gossamer.updates.allot import room_of
from gossamer.updates.change import Change
from gossamer.updates.exchange import Grow
from gossamer.updates.survive import open_slots
from gossamer.weights import Weight


@final
class GrowFirst:
    """Drop each weight to the count that it began with, then grow a fraction of that more; at the stop only drop.

    A new weight competes after `update_every` steps of learning, not at zero; that takes the memory of the surplus.

    Args:
        drop: weight -> scores of its active values, shape [num_active]; the smallest are dropped.
        grow: (weight, kept indices, count, generator) -> indices to activate; they start at zero.
        surplus_fraction: schedule of what is grown, as a fraction of the count that a weight began with, in [0, 1];
            where fewer places are absent, all of them grow.
        update_every: steps between two updates, >= 1.
        stop_step: the last update, after which each weight has its count again, comes after this step.

    Raises:
        ValueError: an argument lies outside its range.
    """

    uses_gradient = False

    def __init__(
        self,
        *,
        drop: Callable[[Weight], Tensor],
        grow: Grow,
        surplus_fraction: Schedule,
        update_every: int,
        stop_step: int,
    ) -> None:
        counts.check_fraction(surplus_fraction(0), name="surplus_fraction")
        self._drop, self._grow, self._surplus_fraction = drop, grow, surplus_fraction
        self._update_every = counts.check_positive(update_every, name="update_every")
        self._stop_step = counts.check_positive(stop_step, name="stop_step")
        self._counts: dict[str, int] = {}

    def due(self, step: int) -> bool:
        """Return whether the update acts after this optimizer step."""
        return step == self._stop_step or (0 < step < self._stop_step and step % self._update_every == 0)

    def begin(self, weights: list[Weight]) -> None:
        """Take the counts that the weights begin with."""
        self._counts = {weight.name: weight.num_active for weight in weights}

    def apply(
        self, weight: Weight, weights: list[Weight], step: int, *, optimizer: Optimizer, generator: torch.Generator
    ) -> Change:
        """Drop back to the count and grow a surplus.

        Raises:
            ValueError: a score is NaN.
        """
        count, active, indices = self._counts[weight.name], weight.num_active, weight.indices()
        kept = ranking.places(keep_largest(self._drop(weight), min(count, active)))
        stay = indices[kept]
        room = room_of(weight, stay, open_slots(weight, stay))
        wanted = counts.num_dropped(count, self._surplus_fraction(step)) if step < self._stop_step else 0
        grown = self._grow(weight, stay, min(wanted, room), generator)
        weight.change_(kept, grown, torch.zeros(grown.shape, device=grown.device), optimizer)
        return Change(weight.name, active - kept.numel(), grown.numel())

    def state_dict(self) -> dict[str, Any]:
        """Return the count of each weight."""
        return dict(self._counts)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with saved counts."""
        self._counts = {name: int(state[name]) for name in self._counts}
