"""What an update is, when it acts, and the record of what it did."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch.optim import Optimizer

from gossamer import counts
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
    """A rule that changes the topology of one weight after the other at some steps."""

    @property
    def uses_gradient(self) -> bool:
        """Whether the dense gradient of the step before must be recorded."""

    def due(self, step: int) -> bool:
        """Return whether the update acts after this optimizer step."""

    def apply(
        self, weight: Weight, weights: list[Weight], step: int, *, optimizer: Optimizer, generator: torch.Generator
    ) -> Change:
        """Change one weight; called for each in the order of the model."""


@runtime_checkable
class JointUpdate(Protocol):
    """A rule that acts on all weights at once, such as one that lets one weight grow what another lost."""

    @property
    def uses_gradient(self) -> bool:
        """Whether the dense gradient of the step before must be recorded."""

    def due(self, step: int) -> bool:
        """Return whether the update acts after this optimizer step."""

    def apply_all(
        self, weights: list[Weight], step: int, *, optimizer: Optimizer, generator: torch.Generator
    ) -> list[Change]:
        """Change the weights; return a record for each, or none where it only looked."""


@runtime_checkable
class Remembers(Protocol):
    """What an update has beside its rule if it must remember something from one step to the next.

    Most hold no state: what changes is in the weights. The sparsifier saves and loads that of the others. What an
    update remembers it replaces and does not write to, so that the sparsifier can take it back if an update fails.
    """

    def begin(self, weights: list[Weight]) -> None:
        """Look at the weights before the first step; called once, when the sparsifier is made."""

    def state_dict(self) -> dict[str, Any]:
        """Return what must be saved, as copies: tensors, numbers and strings only."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what was saved; it is of weights of the same names and shapes."""


@contextmanager
def naming(weight: Weight, step: int) -> Iterator[None]:
    """Say in an error which weight was at work."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        error.add_note(f"while updating {weight.name} after step {step}")
        raise


def learning_rate(optimizer: Optimizer, weight: Weight) -> float:
    """Return the learning rate with which the optimizer moves a weight at present.

    Raises:
        ValueError: the optimizer does not hold the weight any more.
    """
    for group in optimizer.param_groups:
        if any(one is weight.parameter for one in group["params"]):
            return float(group["lr"])
    raise ValueError(
        f"the optimizer does not hold {weight.name} any more; leave its parameters as they were when the sparsifier "
        "was made, or call finalize() first"
    )


@dataclass(frozen=True, kw_only=True)
class Periodic:
    """When an update acts that comes again and again.

    Attributes:
        start_step, stop_step, update_every: the update acts at start_step, every update_every steps after it, and at
            stop_step.
    """

    start_step: int
    stop_step: int
    update_every: int

    def __post_init__(self) -> None:
        """Check what can be checked before training."""
        counts.check_positive(self.update_every, name="update_every")

    def due(self, step: int) -> bool:
        """Return whether the update acts after this optimizer step."""
        if not max(1, self.start_step) <= step <= self.stop_step:
            return False
        return step == self.stop_step or (step - self.start_step) % self.update_every == 0
