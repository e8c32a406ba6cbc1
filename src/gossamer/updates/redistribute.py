"""Drop in all weights first, then grow: one weight may grow what another lost, and the total is exact."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from gossamer import counts, ranking
from gossamer.schedules import Schedule
from gossamer.updates.allot import Allot, Dropped, by_loss, room_of
from gossamer.updates.change import Change, naming
from gossamer.updates.exchange import Grow, spare_
from gossamer.updates.survive import Survive, in_each, open_slots
from gossamer.weights import Weight


@dataclass(frozen=True, kw_only=True)
class Redistribute:
    """Drop some active weights of all tensors, and grow as many in the whole model where a rule wants them.

    What is dropped is decided in all weights before anything grows, and both before any weight changes. A weight keeps
    its best active entry even if all were to go; entries in closed rows or columns, such as the padding of an
    embedding, stay. A full weight takes part: it may lose entries to others.

    Attributes:
        drop: weight -> scores of its active values, shape [num_active]; the smallest are dropped.
        survive: what goes by these scores: `in_each` weight the same fraction, or `over_all` the smallest.
        allot: how many each weight grows: `by_loss`, `by_survivors`, `by_largest(tiles)` and the like.
        grow: (weight, kept indices, count, generator) -> indices to activate; they start at zero.
        drop_fraction: schedule of the fraction of the active weights that is dropped, values in [0, 1].
        update_every: steps between two updates, >= 1.
        stop_step: the last update comes before this step.
        keep_regrown: whether a weight that is dropped and grown in the same update stays as it was, state and all.
        uses_gradient: whether `grow` or `allot` reads the dense gradient.
    """

    drop: Callable[[Weight], Tensor]
    grow: Grow
    drop_fraction: Schedule
    update_every: int
    stop_step: int
    survive: Survive = in_each
    allot: Allot = by_loss
    keep_regrown: bool = False
    uses_gradient: bool = False

    def __post_init__(self) -> None:
        """Check what can be checked before training."""
        counts.check_positive(self.update_every, name="update_every")
        counts.check_positive(self.stop_step, name="stop_step")
        counts.check_fraction(self.drop_fraction(0), name="drop_fraction")

    def due(self, step: int) -> bool:
        """Return whether the update acts after this optimizer step."""
        return 0 < step < self.stop_step and step % self.update_every == 0

    def apply_all(
        self, weights: list[Weight], step: int, *, optimizer: Optimizer, generator: torch.Generator
    ) -> list[Change]:
        """Exchange weights over all tensors.

        Raises:
            ValueError: a score is NaN.
        """
        scores = [scores_of(weight, self.drop, step) for weight in weights]
        may_go = [open_slots(weight, weight.indices()) for weight in weights]
        survives = self.survive(scores, may_go, self.drop_fraction(step))
        regrow = Regrow(allot=self.allot, grow=self.grow, keep_regrown=self.keep_regrown)
        return regrow.change_all(weights, survives, step, optimizer=optimizer, generator=generator)


@dataclass(frozen=True, kw_only=True)
class Regrow:
    """The second half of an exchange over all weights: grow in all of them as many as go.

    Attributes:
        allot: see `Redistribute`.
        grow: see `Redistribute`.
        keep_regrown: see `Redistribute`.
    """

    allot: Allot
    grow: Grow
    keep_regrown: bool = False

    def change_all(
        self,
        weights: list[Weight],
        survives: list[Tensor],
        step: int,
        *,
        optimizer: Optimizer,
        generator: torch.Generator,
    ) -> list[Change]:
        """Drop what does not survive and grow as many.

        Args:
            weights: all of them.
            survives: which active entries of each stay, bool, shape [num_active].
            step: for errors.
            optimizer: holds the weights.
            generator: source of randomness, on the CPU.

        Returns:
            A record for each weight.

        Raises:
            ValueError: `allot` returned numbers that do not add up, or more than there is room for. Nothing is changed.
        """
        indices = [weight.indices() for weight in weights]
        kept = [places[ranking.places(mask)] for places, mask in zip(indices, survives, strict=True)]
        dropped = Dropped(
            weights,
            kept,
            [places.numel() - stay.numel() for places, stay in zip(indices, kept, strict=True)],
            [room_of(weight, stay, open_slots(weight, stay)) for weight, stay in zip(weights, kept, strict=True)],
        )
        numbers = self.allot(dropped, generator)
        _check(numbers, dropped)
        grown = []
        for weight, stay, count in zip(weights, kept, numbers, strict=True):
            with naming(weight, step):
                grown.append(self.grow(weight, stay, count, generator))
        return [
            self._change_one(weight, mask, new, optimizer)
            for weight, mask, new in zip(weights, survives, grown, strict=True)
        ]

    def _change_one(self, weight: Weight, survives: Tensor, grown: Tensor, optimizer: Optimizer) -> Change:
        active = weight.num_active
        if self.keep_regrown:
            grown = spare_(survives, weight.indices(), grown)
        kept = ranking.places(survives)
        if kept.numel() < active or grown.numel():
            weight.change_(kept, grown, torch.zeros(grown.shape, device=grown.device), optimizer)
        return Change(weight.name, active - kept.numel(), grown.numel())


def _check(numbers: list[int], dropped: Dropped) -> None:
    fit = all(0 <= number <= room for number, room in zip(numbers, dropped.room, strict=True))
    if not fit or sum(numbers) != sum(dropped.num_dropped):
        raise ValueError(
            f"allot would grow {numbers} weights where {dropped.num_dropped} go and {dropped.room} are absent; the "
            "numbers must have the sum of what goes, and fit"
        )


def scores_of(weight: Weight, drop: Callable[[Weight], Tensor], step: int) -> Tensor:
    """Return the scores of the active entries of a weight.

    Args:
        weight: any.
        drop: weight -> scores, shape [num_active].
        step: for errors.

    Raises:
        ValueError: a score is NaN; the weight is named.
    """
    with naming(weight, step):
        scores = drop(weight)
        if ranking.has_nan(scores):
            bad = int(scores.isnan().count_nonzero())
            raise ValueError(f"{bad} scores are NaN; scores must be numbers, check data and loss")
    return scores
