"""What a method needs to know of a training run."""

from dataclasses import dataclass

import torch

from gossamer.budgets import Budget


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a method needs to know of a training run.

    Attributes:
        sparsity: asked for at the end.
        start_sparsity: what the recipe makes of dense weights at the start; None: the model is truly sparse already.
        budget: splits what is kept.
        num_steps: optimizer steps in all.
        steps_per_epoch: optimizer steps in one pass over the data.
        drop_fraction: fraction exchanged at an update.
        update_every: steps between two updates.
        update_until: fraction of the training after which the topology stays; 0: the method's own.
        generator: source of randomness.
    """

    sparsity: float
    start_sparsity: float | None
    budget: Budget
    num_steps: int
    steps_per_epoch: int
    drop_fraction: float
    update_every: int
    update_until: float
    generator: torch.Generator

    def stop_step(self, own: int) -> int:
        """Return the step before which the last update comes; `own`: the method's own."""
        return max(1, round(self.num_steps * self.update_until) if self.update_until else own)
