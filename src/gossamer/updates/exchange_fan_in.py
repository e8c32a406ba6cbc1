"""Exchange with an equal fan-in: every neuron has as many inputs, and neurons with few that matter are removed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from gossamer import counts, growth
from gossamer.masks import keep_largest
from gossamer.schedules import Schedule
from gossamer.updates.change import Change
from gossamer.updates.exchange_in_groups import check_exchange, keep_in_groups, regrow_, survivors
from gossamer.weights import Weight, num_open


@dataclass(frozen=True, kw_only=True)
class ExchangeFanIn:
    """Drop the smallest of a whole weight, and grow at each neuron by the gradient until all have the same fan-in.

    fan-in k = min(open inputs, num_weights // live neurons)
    salient weights of a neuron: its own among what stays of the whole weight, and among as many absent entries as were
    dropped, those of the largest gradient in the whole weight
    removed: neurons with fewer than salient_fraction * k of them

    A weight has k * live neurons entries: what the division leaves over, fewer than there are live neurons, does not
    exist until the number of neurons changes. As many neurons stay as num_weights needs to have place.

    Attributes:
        drop: criterion of the active values; the smallest scores are dropped.
        drop_fraction: schedule of the fraction of the active weights that is exchanged, values in [0, 1].
        num_weights: what each weight shall have in all, by its name.
        salient_fraction: gamma_sal, in [0, 1]; 0: no neuron is removed.
        keeps_neurons: names of the weights of which no neuron is removed, such as that of the output layer.
        update_every: steps between two updates, >= 1.
        stop_step: the last update comes before this step.
    """

    drop: Callable[[Tensor], Tensor]
    drop_fraction: Schedule
    num_weights: Mapping[str, int]
    salient_fraction: float
    keeps_neurons: frozenset[str]
    update_every: int
    stop_step: int

    def __post_init__(self) -> None:
        """Check what can be checked before training."""
        check_exchange(self.drop_fraction, self.update_every, self.stop_step)
        counts.check_fraction(self.salient_fraction, name="salient_fraction")

    @property
    def uses_gradient(self) -> bool:
        """True: it says where weights grow."""
        return True

    def due(self, step: int) -> bool:
        """Return whether the update acts after this optimizer step."""
        return 0 < step < self.stop_step and step % self.update_every == 0

    def apply(
        self, weight: Weight, weights: list[Weight], step: int, *, optimizer: Optimizer, generator: torch.Generator
    ) -> Change:
        """Exchange weights of one tensor; a tensor with no place left to grow stays as it is."""
        if weight.num_active >= num_open(weight):
            return Change(weight.name, 0, 0)
        survives = survivors(weight, self.drop, self.drop_fraction(step))
        if self.salient_fraction and weight.name not in self.keeps_neurons:
            weight.closed_rows |= self._removed(weight, survives)
        wanted = torch.where(weight.closed_rows, 0, self._fan_in(weight))
        row = weight.indices() // weight.closed_columns.numel()
        survives &= keep_in_groups(torch.where(survives, self.drop(weight.values()), -torch.inf), row, wanted)
        missing = wanted - row[survives].bincount(minlength=wanted.numel())
        one = torch.zeros(weight.closed_columns.numel(), dtype=torch.int64, device=row.device)
        return regrow_(weight, survives, one, missing[:, None], optimizer)

    def _fan_in(self, weight: Weight) -> int:
        live, inputs = int((~weight.closed_rows).sum()), int((~weight.closed_columns).sum())
        return min(inputs, self.num_weights[weight.name] // max(1, live))

    def _removed(self, weight: Weight, survives: Tensor) -> Tensor:
        """The neurons that have too few salient weights: bool, shape [rows]."""
        columns, indices = weight.closed_columns.numel(), weight.indices()
        dropped = int((~survives).sum())
        kept = indices[survives]
        # Fewer may be absent than were dropped and could be grown.
        grown = growth.gradient(
            weight.gradient_tiles(),
            kept,
            weight.closed_rows,
            weight.closed_columns,
            count=min(dropped, num_open(weight) - kept.numel()),
        )
        salient = torch.cat([kept, grown]).div(columns, rounding_mode="floor").bincount(minlength=weight.shape[0])
        fan_in = self._fan_in(weight)
        # The integer from which on it is not below salient_fraction * k, rounded where all counts are.
        stays = ~weight.closed_rows & (salient >= fan_in - counts.num_dropped(fan_in, 1.0 - self.salient_fraction))
        least = -(-self.num_weights[weight.name] // max(1, int((~weight.closed_columns).sum())))
        if int(stays.sum()) < least:
            stays = keep_largest(salient.float(), least, competes=~weight.closed_rows)
        return ~stays & ~weight.closed_rows
