"""An exchange over all weights by one threshold of the magnitude, which adapts to how many fall below it."""

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from gossamer import counts, criteria
from gossamer.masks import keep_largest
from gossamer.updates.allot import Allot, by_survivors
from gossamer.updates.change import Change
from gossamer.updates.exchange import Grow
from gossamer.updates.redistribute import Regrow, scores_of
from gossamer.updates.survive import open_slots
from gossamer.weights import Weight

# What float32 magnitudes can be told apart from.
_SMALLEST, _LARGEST = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max


@final
class Threshold:
    """Drop every active weight below one threshold, grow as many, and double or halve the threshold for the next time.

    drop |w| < threshold;  K = number dropped, target = drop_fraction * active weights
    threshold <- 2 threshold where K < (1 - tolerance) target, threshold / 2 where K > (1 + tolerance) target

    The largest weight of each tensor stays, however small it is. Entries in closed rows or columns stay too.

    Args:
        grow: (weight, kept indices, count, generator) -> indices to activate; they start at zero.
        drop_fraction: fraction of all active weights that an update should drop, in [0, 1].
        threshold: the first one, > 0.
        tolerance: by which fraction of the target the number dropped may be off, in [0, 1].
        update_every: steps between two updates, >= 1.
        stop_step: the last update comes before this step.
        allot: how many each weight grows.

    Attributes:
        threshold: of the next update, > 0.

    Raises:
        ValueError: an argument lies outside its range.
    """

    uses_gradient = False

    def __init__(
        self,
        *,
        grow: Grow,
        drop_fraction: float,
        threshold: float,
        tolerance: float,
        update_every: int,
        stop_step: int,
        allot: Allot = by_survivors,
    ) -> None:
        if not _SMALLEST <= threshold <= _LARGEST:
            raise ValueError(f"threshold must be a number above 0, got {threshold}; it is doubled and halved")
        self.threshold = threshold
        self._drop_fraction = counts.check_fraction(drop_fraction, name="drop_fraction")
        self._tolerance = counts.check_fraction(tolerance, name="tolerance")
        self._update_every = counts.check_positive(update_every, name="update_every")
        self._stop_step = counts.check_positive(stop_step, name="stop_step")
        self._regrow = Regrow(allot=allot, grow=grow)

    def due(self, step: int) -> bool:
        """Return whether the update acts after this optimizer step."""
        return 0 < step < self._stop_step and step % self._update_every == 0

    def apply_all(
        self, weights: list[Weight], step: int, *, optimizer: Optimizer, generator: torch.Generator
    ) -> list[Change]:
        """Exchange weights over all tensors and adapt the threshold.

        Raises:
            ValueError: a weight is NaN.
        """
        sizes = [scores_of(weight, _magnitude, step) for weight in weights]
        may_go = [open_slots(weight, weight.indices()) for weight in weights]
        survives = [_above(size, free, self.threshold) for size, free in zip(sizes, may_go, strict=True)]
        gone = sum(int((~mask).count_nonzero()) for mask in survives)
        changes = self._regrow.change_all(weights, survives, step, optimizer=optimizer, generator=generator)
        self._adapt(gone, sum(size.numel() for size in sizes), sum(max(0, int(free.sum()) - 1) for free in may_go))
        return changes

    def begin(self, weights: list[Weight]) -> None:
        """Do nothing: the first threshold is given."""

    def state_dict(self) -> dict[str, Any]:
        """Return the threshold."""
        return {"threshold": self.threshold}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with a saved threshold."""
        self.threshold = float(state["threshold"])

    def _adapt(self, gone: int, active: int, most: int) -> None:
        target = self._drop_fraction * active
        # Where all went that could, a higher threshold would change nothing.
        if gone < (1 - self._tolerance) * target and gone < most:
            self.threshold = min(_LARGEST, 2 * self.threshold)
        elif gone > (1 + self._tolerance) * target:
            self.threshold = max(_SMALLEST, self.threshold / 2)


def _magnitude(weight: Weight) -> Tensor:
    return criteria.magnitude(weight.values())


def _above(sizes: Tensor, may_go: Tensor, threshold: float) -> Tensor:
    stays = ~may_go | ~(sizes < threshold)
    if bool((stays & may_go).any()) or not bool(may_go.any()):
        return stays
    return stays | keep_largest(sizes, 1, competes=may_go)
