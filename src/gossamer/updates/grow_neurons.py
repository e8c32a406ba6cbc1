"""Hidden layers become wider while they train."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.optim import Optimizer

from gossamer import counts
from gossamer.neurons import HiddenLayer
from gossamer.updates.change import Change, Periodic
from gossamer.weights import Weight

# (hidden layer, how many, generator, optimizer) -> None
Add = Callable[[HiddenLayer, int, torch.Generator, Optimizer], None]


@dataclass(frozen=True, kw_only=True)
class GrowNeurons(Periodic):
    """Add neurons to each hidden layer, as a fraction of those that it has.

    Attributes:
        add: adds a number of neurons to a layer.
        neuron_fraction: of the layer's neurons, in [0, 1]; how many are added at each update, rounded down.
        hidden: the layers, views of the sparsifier's weights.
        start_step, stop_step, update_every: the update acts at start_step, every update_every steps after it, and at
            stop_step.
        uses_gradient: whether `add` reads what the backward pass left.
    """

    add: Add
    neuron_fraction: float
    hidden: Sequence[HiddenLayer]
    uses_gradient: bool = False

    def __post_init__(self) -> None:
        """Check what can be checked before training."""
        super().__post_init__()
        counts.check_fraction(self.neuron_fraction, name="neuron_fraction")

    @property
    def resizes(self) -> bool:
        """True: layers become wider."""
        return True

    def apply(
        self, weight: Weight, weights: list[Weight], step: int, *, optimizer: Optimizer, generator: torch.Generator
    ) -> Change:
        """Widen the layer that a weight leads into; what grows in its reader is counted with it."""
        grown = 0
        for layer in self.hidden:
            number = counts.num_dropped(layer.num_units, self.neuron_fraction)
            if layer.weight is weight and number:
                before = layer.weight.num_active + layer.reader.num_active
                self.add(layer, number, generator, optimizer)
                grown += layer.weight.num_active + layer.reader.num_active - before
        return Change(weight.name, 0, grown)
