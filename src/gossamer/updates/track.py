"""Track the weights that moved farthest from their first values, and put the others back there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from gossamer import counts, masks
from gossamer.budgets import Budget
from gossamer.updates.change import Change
from gossamer.updates.reselect import latent
from gossamer.weights import MaskedWeight, Weight
from gossamer.weights.state import clear_state_


class FirstValues(Protocol):
    """What knows the first values of a weight."""

    def first(self, weight: Tensor) -> Tensor:
        """Return them as they stand now, of the shape of the weight."""

    def decay_(self) -> None:
        """Make them smaller."""

    def end_(self) -> None:
        """Make them zero for good."""


@dataclass(frozen=True, kw_only=True)
class Track:
    """Keep, after every step, the weights farthest from their first values; the others forget their step.

    moved: |w - first| of a tracked weight, |step| of another
    tracked: the largest of them

    A tracked weight is active and holds its whole value; an absent one is zero here and counts as its first value.

    Attributes:
        first_values: by the name of the weight.
        sparsity: fraction of the weights that is not tracked, in [0, 1).
        budget: (shapes, sparsity=...) -> number of weights that each tensor tracks. None: all tensors compete.
        freeze_step: after this step the same weights stay tracked; None: never.
        zero_step: after this step the first values are zero; None: they only decay.
        chosen: masks by name that were chosen with the first weight of a step and wait for the others; empty between
            two steps.
    """

    first_values: Mapping[str, FirstValues]
    sparsity: float
    budget: Budget | None
    freeze_step: int | None
    zero_step: int | None
    chosen: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check what can be checked before training."""
        counts.check_sparsity(self.sparsity)
        for name in ("freeze_step", "zero_step"):
            step = getattr(self, name)
            if step is not None:
                counts.check_positive(step, name=name)

    @property
    def uses_gradient(self) -> bool:
        """False: what is absent takes its step too, and is judged by that."""
        return False

    def due(self, step: int) -> bool:
        """Return True: the weights that are not tracked go back after every step."""
        return step > 0

    def start_(self, weights: list[MaskedWeight]) -> None:
        """Track as many as there shall be from the start; nothing has moved yet, so these are the largest."""
        for weight, mask in zip(weights, self._choose(weights).values(), strict=True):
            values = self.first_values[weight.name].first(weight.parameter.detach())
            weight.set_mask_(mask)
            weight.parameter.data.copy_(values.masked_fill(~mask, 0.0))

    def apply(
        self, weight: Weight, weights: list[Weight], step: int, *, optimizer: Optimizer, generator: torch.Generator
    ) -> Change:
        """Choose what one weight tracks.

        Raises:
            ValueError: a weight keeps no latent values, or a value is NaN.
        """
        mine, first = latent(weight), self.first_values[weight.name]
        if weight is weights[0]:
            self.chosen.clear()
            if self.freeze_step is None or step <= self.freeze_step:
                self.chosen.update(self._choose([latent(one) for one in weights]))
        old, mask = mine.mask, self.chosen.pop(weight.name, mine.mask)
        values = mine.dense_values()
        entering = mask & ~old
        values[entering] += first.first(values)[entering]
        mine.set_mask_(mask)
        # set_mask_ has seen to it that all of this can be taken back.
        mine.parameter.data.copy_(values.masked_fill(~mask, 0.0))
        mine.keep_latent_(trained=True)
        clear_state_(optimizer, mine.parameter, ~mask)
        if self.zero_step is not None and step >= self.zero_step:
            first.end_()
        else:
            first.decay_()
        return Change(weight.name, int((old & ~mask).sum()), int(entering.sum()))

    def _choose(self, weights: list[MaskedWeight]) -> dict[str, Tensor]:
        moved = {weight.name: self._moved(weight) for weight in weights}
        if self.budget is None:
            total = counts.num_active(sum(scores.numel() for scores in moved.values()), self.sparsity)
            return masks.keep_largest_of(moved, total)
        kept = self.budget({weight.name: weight.shape for weight in weights}, sparsity=self.sparsity)
        return {name: masks.keep_largest(scores, kept[name]) for name, scores in moved.items()}

    def _moved(self, weight: MaskedWeight) -> Tensor:
        values = weight.dense_values()
        first = self.first_values[weight.name].first(values)
        return torch.where(weight.mask, values - first, values).abs().float()
