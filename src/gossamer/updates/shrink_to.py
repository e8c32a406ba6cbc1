"""Drop what is too much, in equal parts, until every weight has a given count."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from gossamer.masks import keep_largest
from gossamer.updates.change import Change, Periodic
from gossamer.weights import Weight


@dataclass(frozen=True, kw_only=True)
class ShrinkTo(Periodic):
    """Drop the worst weights for good; after the last update none has more than its count.

    Attributes:
        drop: criterion of the active values; the smallest scores are dropped.
        num_active: how many weights each tensor keeps in the end, by name.
        start_step, stop_step, update_every: the update acts at start_step, every update_every steps after it, and at
            stop_step, which is later than start_step.
    """

    drop: Callable[[Tensor], Tensor]
    num_active: Mapping[str, int]

    def __post_init__(self) -> None:
        """Check what can be checked before training."""
        super().__post_init__()
        if not 0 < self.start_step <= self.stop_step:
            raise ValueError(
                f"start_step is {self.start_step}, stop_step {self.stop_step}; the first must be 1 or more, the second "
                "no less"
            )

    @property
    def uses_gradient(self) -> bool:
        """False: weights are judged by their values."""
        return False

    def apply(
        self, weight: Weight, weights: list[Weight], step: int, *, optimizer: Optimizer, generator: torch.Generator
    ) -> Change:
        """Drop one part of what is too much in one tensor."""
        surplus = max(0, weight.num_active - self.num_active[weight.name])
        count = -(-surplus // self._updates_left(step))
        if count:
            kept = keep_largest(self.drop(weight.values()), weight.num_active - count).nonzero().flatten()
            none = kept.new_empty(0)
            weight.change_(kept, none, none.float(), optimizer)
        return Change(weight.name, count, 0)

    def _updates_left(self, step: int) -> int:
        """How many updates there are from this step on, this one among them."""
        return 1 + -(-(self.stop_step - step) // self.update_every)
