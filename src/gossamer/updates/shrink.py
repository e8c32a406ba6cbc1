"""Drop weights for good until a number is reached that falls with the step."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from gossamer import counts
from gossamer.budgets import Budget
from gossamer.masks import keep_largest
from gossamer.schedules import Schedule
from gossamer.updates.change import Change, Periodic
from gossamer.weights import Weight


@dataclass(frozen=True, kw_only=True)
class Shrink(Periodic):
    """Keep, in each weight, the best of what is left; nothing that was dropped comes back.

    Attributes:
        drop: criterion of the active values; the smallest scores are dropped.
        sparsity: schedule of the sparsity, values in [0, 1).
        budget: (shapes, sparsity=...) -> number of weights that each tensor keeps.
        start_step, stop_step, update_every: the update acts at start_step, every update_every steps after it, and at
            stop_step.
    """

    drop: Callable[[Tensor], Tensor]
    sparsity: Schedule
    budget: Budget

    def __post_init__(self) -> None:
        """Check what can be checked before training."""
        super().__post_init__()
        counts.check_sparsity(self.sparsity(self.stop_step))

    @property
    def uses_gradient(self) -> bool:
        """False: weights are judged by their values."""
        return False

    def apply(
        self, weight: Weight, weights: list[Weight], step: int, *, optimizer: Optimizer, generator: torch.Generator
    ) -> Change:
        """Drop weights of one tensor down to its part of the budget."""
        target = self._target(weights, step)[weight.name]
        active = weight.num_active
        if target >= active:
            return Change(weight.name, 0, 0)
        kept = keep_largest(self.drop(weight.values()), target).nonzero().flatten()
        none = kept.new_empty(0)
        weight.change_(kept, none, none.float(), optimizer)
        return Change(weight.name, active - target, 0)

    def _target(self, weights: list[Weight], step: int) -> Mapping[str, int]:
        shapes = {weight.name: weight.shape for weight in weights}
        sparsity = self.sparsity(step)
        if sparsity <= 0.0:
            return {name: math.prod(shape) for name, shape in shapes.items()}
        return self.budget(shapes, sparsity=sparsity)
