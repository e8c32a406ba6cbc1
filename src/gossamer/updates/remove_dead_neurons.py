"""Hidden neurons that do nothing any more leave their layers while these train."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.optim import Optimizer

from gossamer.neurons import HiddenLayer
from gossamer.neurons.remove import remove_all_dead_
from gossamer.updates.change import Change, Periodic
from gossamer.updates.remove_neurons import check_alone
from gossamer.weights import Weight


@dataclass(frozen=True, kw_only=True)
class RemoveDeadNeurons(Periodic):
    """Remove neurons without incoming or without outgoing weights; what the model computes stays the same.

    Attributes:
        hidden: the layers, views of the sparsifier's weights.
        start_step, stop_step, update_every: the update acts at start_step, every update_every steps after it, and at
            stop_step.
    """

    hidden: Sequence[HiddenLayer]

    @property
    def resizes(self) -> bool:
        """True: layers become smaller."""
        return True

    @property
    def uses_gradient(self) -> bool:
        """False: a neuron is judged by which of its weights exist."""
        return False

    def apply(
        self, weight: Weight, weights: list[Weight], step: int, *, optimizer: Optimizer, generator: torch.Generator
    ) -> Change:
        """Remove the dead neurons of all layers at the first weight, with which all that goes is counted.

        Raises:
            RuntimeError: several processes train together.
        """
        if weight is not weights[0]:
            return Change(weight.name, 0, 0)
        check_alone("train in one process")
        before = sum(other.num_active for other in weights)
        remove_all_dead_(self.hidden, optimizer)
        return Change(weight.name, before - sum(other.num_active for other in weights), 0)
