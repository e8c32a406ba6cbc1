"""What an update is, and the record of what it did."""

from typing import NamedTuple, Protocol

import torch
from torch.optim import Optimizer

from gossamer.weights import Weight


class Change(NamedTuple):
    """What one update did to one weight.

    Attributes:
        name: the weight.
        num_dropped: weights that were active before and are not after.
        num_grown: weights that are active after and were not before, or came back with a new value.
    """

    name: str
    num_dropped: int
    num_grown: int


class Update(Protocol):
    """A rule that changes topologies at some steps. It holds no state: what changes is in the weights."""

    @property
    def uses_gradient(self) -> bool:
        """Whether the dense gradient of the step before must be recorded."""

    def due(self, step: int) -> bool:
        """Return whether the update acts after this optimizer step."""

    def apply(
        self, weight: Weight, weights: list[Weight], step: int, *, optimizer: Optimizer, generator: torch.Generator
    ) -> Change:
        """Change one weight; called for each in the order of the model."""


def acts(step: int, start_step: int, stop_step: int, update_every: int) -> bool:
    """Return whether a rule acts after a step: at the start, every so many steps after it, and at the stop."""
    if not max(1, start_step) <= step <= stop_step:
        return False
    return step == stop_step or (step - start_step) % update_every == 0
