"""A random walk in which every weight takes part: what falls below zero sleeps, and wakes when it comes up again."""

import math
from collections.abc import Mapping
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from gossamer import counts
from gossamer.updates.change import Change, learning_rate
from gossamer.updates.reselect import latent
from gossamer.updates.select import open_places
from gossamer.weights import MaskedWeight, Weight
from gossamer.weights.undo import write_


@final
class SoftRewire:
    """Give every entry a fixed sign and a place on a line; those at zero or above it are active, the others latent.

    w = sign * theta, theta >= lowest; after the optimizer's own step, which moves what is active
    theta >= 0: theta <- theta - lr * strength + sqrt(2 * lr * temperature) * noise, noise ~ N(0, 1)
    theta < 0: theta <- max(lowest, theta + sqrt(2 * lr * temperature) * noise)

    How many are active comes out of the walk. Where no gradient pulls, it tends to the fraction

    density = 1 / (1 - lowest * strength / temperature)

    Entries in closed rows or columns stay as they are.

    Args:
        strength: of the L1 penalty on what is active, >= 0.
        temperature: how strong the noise is, >= 0.
        lowest: where the walk of latent entries ends, < 0.
        stop_step: the last update comes before this step.

    Raises:
        ValueError: an argument lies outside its range.
    """

    uses_gradient = False

    def __init__(self, *, strength: float, temperature: float, lowest: float, stop_step: int) -> None:
        for name, value in (("strength", strength), ("temperature", temperature)):
            if not 0.0 <= value < math.inf:
                raise ValueError(f"{name} must be 0 or more and finite, got {value}")
        if not -math.inf < lowest < 0.0:
            raise ValueError(f"lowest must lie below 0 and be finite, got {lowest}")
        self._strength, self._temperature, self._lowest = strength, temperature, lowest
        self._stop_step = counts.check_positive(stop_step, name="stop_step")
        self._is_negative: dict[str, Tensor] = {}

    def due(self, step: int) -> bool:
        """Return whether the update acts after this optimizer step."""
        return 0 < step < self._stop_step

    def begin(self, weights: list[Weight]) -> None:
        """Take the signs: that of an active value, the opposite of that of a latent one; a zero counts as positive.

        Raises:
            ValueError: a weight keeps no latent values, or is truly sparse.
        """
        for weight in map(latent, weights):
            values = weight.dense_values()
            self._is_negative[weight.name] = torch.where(weight.mask, values < 0, values > 0)

    def apply(
        self, weight: Weight, weights: list[Weight], step: int, *, optimizer: Optimizer, generator: torch.Generator
    ) -> Change:
        """Let one weight walk.

        Raises:
            ValueError: a value is NaN.
        """
        mine, old = latent(weight), latent(weight).mask
        is_open = open_places(mine)
        values = self._walk(mine, learning_rate(optimizer, mine), generator)
        if bool(values.isnan().any()):
            raise ValueError(f"{int(values.isnan().sum())} values are NaN; check data and learning rate")
        values = torch.where(is_open, values, mine.dense_values())
        mask = torch.where(is_open, self._theta(mine, values) >= 0, old)
        mine.latent = values.masked_fill(old, 0.0)
        write_(mine.parameter.data, values.masked_fill(~old, 0.0))
        grown = (mask & ~old).flatten().nonzero().flatten()
        kept = mask[old].nonzero().flatten()
        change = Change(mine.name, mine.num_active - kept.numel(), grown.numel())
        if change.num_dropped or change.num_grown:
            mine.change_(kept, grown, values.flatten()[grown], optimizer)
        return change

    def state_dict(self) -> dict[str, Any]:
        """Return the sign of every entry, one bit each."""
        return {
            name: torch.from_numpy(np.packbits(signs.cpu().numpy().reshape(-1)))
            for name, signs in self._is_negative.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with saved signs."""
        for name, signs in self._is_negative.items():
            bits = np.unpackbits(state[name].cpu().numpy(), count=signs.numel()).astype(bool)
            self._is_negative[name] = torch.from_numpy(bits).view(signs.shape).to(signs.device)

    def _theta(self, weight: MaskedWeight, values: Tensor) -> Tensor:
        return torch.where(self._is_negative[weight.name], -values, values)

    def _walk(self, weight: MaskedWeight, rate: float, generator: torch.Generator) -> Tensor:
        """The values after a step of the walk."""
        theta = self._theta(weight, weight.dense_values())
        noise = torch.randn(theta.shape, generator=generator, device="cpu").to(theta)
        theta += math.sqrt(2 * rate * self._temperature) * noise
        theta = torch.where(weight.mask, theta - rate * self._strength, theta.clamp(min=self._lowest))
        # What just fell asleep does not lie deeper than the others.
        return self._theta(weight, theta.clamp(min=self._lowest))
