"""Drop weights for good until a number is reached that falls with the step; all tensors compete."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from gossamer import counts, ranking
from gossamer.schedules import Schedule
from gossamer.updates.change import Change, Periodic
from gossamer.updates.redistribute import scores_of
from gossamer.updates.survive import keep_over_all, open_slots
from gossamer.weights import Weight, numel


@dataclass(frozen=True, kw_only=True)
class ShrinkTogether(Periodic):
    """Keep the best of what is left of the whole model; a weight keeps its best entry whatever the others are.

    Attributes:
        drop: weight -> scores of its active values; the smallest are dropped.
        sparsity: schedule of the sparsity of all weights together, values in [0, 1).
        start_step, stop_step, update_every: the update acts at start_step, every update_every steps after it, and at
            stop_step.
    """

    drop: Callable[[Weight], Tensor]
    sparsity: Schedule

    def __post_init__(self) -> None:
        """Check what can be checked before training."""
        super().__post_init__()
        counts.check_sparsity(self.sparsity(self.stop_step))

    @property
    def uses_gradient(self) -> bool:
        """False: weights are judged by their values."""
        return False

    def apply_all(
        self, weights: list[Weight], step: int, *, optimizer: Optimizer, generator: torch.Generator
    ) -> list[Change]:
        """Drop the smallest of the model.

        Raises:
            ValueError: a score is NaN.
        """
        scores = [scores_of(weight, self.drop, step) for weight in weights]
        may_go = [open_slots(weight, weight.indices()) for weight in weights]
        target = counts.num_active(sum(numel(weight) for weight in weights), max(0.0, self.sparsity(step)))
        surplus = max(0, sum(weight.num_active for weight in weights) - target)
        survives = keep_over_all(scores, may_go, surplus)
        return [_drop(weight, mask, optimizer) for weight, mask in zip(weights, survives, strict=True)]


def _drop(weight: Weight, survives: Tensor, optimizer: Optimizer) -> Change:
    kept, active = ranking.places(survives), weight.num_active
    if kept.numel() < active:
        none = kept.new_empty(0)
        weight.change_(kept, none, none.float(), optimizer)
    return Change(weight.name, active - kept.numel(), 0)
