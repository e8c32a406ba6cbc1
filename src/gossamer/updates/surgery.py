"""Network surgery: small values become latent, large latent ones are spliced back, those between stay."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from gossamer import counts
from gossamer.updates.change import Change, Periodic
from gossamer.updates.reselect import latent, swap
from gossamer.updates.select import open_places
from gossamer.weights import Weight


@dataclass(frozen=True, kw_only=True)
class Surgery(Periodic):
    """Drop below one threshold and splice above a higher one, each weight by its own; the count is free.

    t = max(0, mean |w| + deviations * std |w|) over all values, latent ones too
    active: |w| >= (1 + margin) t; latent: |w| < (1 - margin) t; between the two: as before

    Attributes:
        deviations: where the threshold lies, in standard deviations from the mean; larger: sparser.
        margin: half the width of the band in which nothing changes, as a part of the threshold, in [0, 1].
        start_step, stop_step, update_every: the update acts at start_step, every update_every steps after it, and at
            stop_step.
    """

    deviations: float
    margin: float

    def __post_init__(self) -> None:
        """Check what can be checked before training."""
        super().__post_init__()
        counts.check_fraction(self.margin, name="margin")

    @property
    def uses_gradient(self) -> bool:
        """False: weights are judged by their values."""
        return False

    def apply(
        self, weight: Weight, weights: list[Weight], step: int, *, optimizer: Optimizer, generator: torch.Generator
    ) -> Change:
        """Drop and splice in one weight.

        Raises:
            ValueError: the weight keeps no latent values, or a value is NaN.
        """
        masked = latent(weight)
        size = masked.dense_values().abs().float()
        if bool(size.isnan().any()):
            raise ValueError(f"{int(size.isnan().sum())} values are NaN; check data and learning rate")
        low, high = self._thresholds(size)
        mask = torch.where(masked.mask, size >= low, size >= high)
        return swap(masked, mask & open_places(masked))

    def _thresholds(self, size: Tensor) -> tuple[float, float]:
        spread = float(size.std(correction=0)) if size.numel() else 0.0
        middle = float(size.mean()) if size.numel() else 0.0
        threshold = max(0.0, middle + self.deviations * spread)
        return (1 - self.margin) * threshold, (1 + self.margin) * threshold
