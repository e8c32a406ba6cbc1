"""Choose anew which values are active and which are latent: nothing is forgotten."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from gossamer import counts
from gossamer.budgets import Budget
from gossamer.schedules import Schedule
from gossamer.updates.change import Change, Periodic
from gossamer.updates.select import keep_best, open_places
from gossamer.weights import MaskedWeight, Weight


@dataclass(frozen=True, kw_only=True)
class Reselect(Periodic):
    """Let the best of all values be active, latent ones among them; values and optimizer state stay as they are.

    Attributes:
        drop: criterion of all values, latent ones too; the smallest scores become latent.
        sparsity: schedule of the sparsity, values in [0, 1).
        budget: (shapes, sparsity=...) -> number of weights that each tensor keeps. None: all tensors compete.
        start_step, stop_step, update_every: the update acts at start_step, every update_every steps after it, and at
            stop_step.
    """

    drop: Callable[[Tensor], Tensor]
    sparsity: Schedule
    budget: Budget | None

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
        """Choose the active values of one weight.

        Raises:
            ValueError: a weight keeps no latent values.
        """
        mine, others = latent(weight), [latent(other) for other in weights]
        return swap(mine, keep_best(mine, others, score=self._score, sparsity=self.sparsity(step), budget=self.budget))

    def _score(self, weight: MaskedWeight) -> Tensor:
        return self.drop(weight.dense_values()).masked_fill(~open_places(weight), -torch.inf)


def latent(weight: Weight) -> MaskedWeight:
    """Return the weight if it keeps latent values, else raise.

    Raises:
        ValueError: it does not, or is truly sparse.
    """
    if not isinstance(weight, MaskedWeight) or weight.latent is None:
        raise ValueError(
            f"{weight.name} keeps no latent values, so nothing absent can come back as it is; take a dense model, and "
            "call keep_latent_(trained=True) on its masked weights before the sparsifier is made"
        )
    return weight


def swap(weight: MaskedWeight, mask: Tensor) -> Change:
    """Give a weight with latent values another mask and return what changed."""
    old = weight.mask
    weight.set_mask_(mask)
    return Change(weight.name, int((old & ~mask).sum()), int((mask & ~old).sum()))
