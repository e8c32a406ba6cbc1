"""Importance pruning: remove the hidden neurons whose incoming weights are smallest, for good."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from gossamer import counts
from gossamer.masks import keep_largest
from gossamer.neurons import HiddenLayer
from gossamer.neurons.remove import fold_
from gossamer.neurons.resize import resize_
from gossamer.updates.change import Change
from gossamer.weights import Weight
from gossamer.weights.tiles import trains_together


@dataclass(frozen=True, kw_only=True)
class RemoveNeurons:
    """Close the weakest rows of each hidden weight, and the same columns of the weight that reads them.

    strength of neuron j = sum over its active inputs of |w_ji|

    Attributes:
        neuron_fraction: fraction of the neurons still open that goes at each update, in [0, 1].
        start_step, stop_step, update_every: acts at start_step and every update_every steps after it, before stop_step.
        readers: for each hidden weight the name of the weight that reads its outputs, or None where that is unknown;
            then only incoming weights go and the neuron passes on a constant.
        hidden: the layers of the model whose neurons are known. What a neuron without incoming weights would pass on
            from then on, f(bias), is added to the bias of its reader.
        compact: whether the neurons of these layers are removed from the tensors too, so that the layers become
            smaller; else their rows and columns stay, closed.
    """

    neuron_fraction: float
    start_step: int
    stop_step: int
    update_every: int
    readers: Mapping[str, str | None]
    hidden: Sequence[HiddenLayer] = ()
    compact: bool = False

    def __post_init__(self) -> None:
        """Check what can be checked before training."""
        counts.check_positive(self.update_every, name="update_every")
        counts.check_fraction(self.neuron_fraction, name="neuron_fraction")

    @property
    def resizes(self) -> bool:
        """Whether layers become smaller."""
        return self.compact

    @property
    def uses_gradient(self) -> bool:
        """False: neurons are judged by their weights."""
        return False

    def due(self, step: int) -> bool:
        """Return whether the update acts after this optimizer step."""
        return max(1, self.start_step) <= step < self.stop_step and (step - self.start_step) % self.update_every == 0

    def apply(
        self, weight: Weight, weights: list[Weight], step: int, *, optimizer: Optimizer, generator: torch.Generator
    ) -> Change:
        """Remove neurons of one hidden layer; the output layer has none to remove.

        Raises:
            RuntimeError: layers should become smaller while several processes train together.
        """
        # All are chosen before any goes: a model may list a reader before the weight that it reads.
        if weight is weights[0]:
            if self.compact:
                check_alone("give compact=False, and call gs.neurons.remove_dead_ on the trained model")
            for source in (other for other in weights if other.name in self.readers):
                self._close(source)
                for reader in (other for other in weights if other.name == self.readers[source.name]):
                    reader.closed_columns |= source.closed_rows
        before = weight.num_active
        _drop_closed(weight, optimizer)
        change = Change(weight.name, before - weight.num_active, 0)
        # Last, so that every change before it speaks of weights that keep their places.
        if self.compact and weight is weights[-1]:
            for layer in self.hidden:
                if bool(layer.weight.closed_rows.any()):
                    resize_(layer, (~layer.weight.closed_rows).nonzero().flatten(), optimizer)
        return change

    def _close(self, weight: Weight) -> None:
        rows = weight.indices() // weight.closed_columns.numel()
        strength = torch.zeros(weight.shape[0], device=rows.device)
        strength.index_add_(0, rows, weight.values().abs().float())
        still_open = int((~weight.closed_rows).sum())
        num_kept = max(1, still_open - counts.num_dropped(still_open, self.neuron_fraction))
        was_closed = weight.closed_rows.clone()
        weight.closed_rows |= ~keep_largest(strength, min(num_kept, still_open), competes=~weight.closed_rows)
        for layer in self.hidden:
            if layer.weight is weight:
                fold_(layer, weight.closed_rows & ~was_closed)


def check_alone(remedy: str) -> None:
    """Raise if parameters should change their length while several processes train together.

    Args:
        remedy: what to do instead.

    Raises:
        RuntimeError: several processes do.
    """
    if trains_together():
        raise RuntimeError(
            "layers would change their size, which DistributedDataParallel cannot follow while several processes train "
            f"together; {remedy}"
        )


def _drop_closed(weight: Weight, optimizer: Optimizer) -> None:
    """Drop what stands in a closed row or column."""
    indices = weight.indices()
    columns = weight.closed_columns.numel()
    gone: Tensor = weight.closed_rows[indices // columns] | weight.closed_columns[indices % columns]
    if bool(gone.any()):
        none = indices.new_empty(0)
        weight.change_((~gone).nonzero().flatten(), none, none.float(), optimizer)
