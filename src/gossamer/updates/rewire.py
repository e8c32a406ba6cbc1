"""A random walk in the space of topologies: a weight whose sign would flip goes, and another comes at random."""

import math
from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from gossamer import counts, ranking
from gossamer.updates.allot import at_random
from gossamer.updates.change import Change, learning_rate, naming
from gossamer.updates.exchange import Grow
from gossamer.updates.redistribute import Regrow
from gossamer.updates.survive import open_slots
from gossamer.weights import Weight


@final
class Rewire:
    """Give each active weight a fixed sign, push it towards zero and shake it; what falls below zero is replaced.

    w = sign * theta, theta >= 0; after the optimizer's own step
    theta <- theta - lr * strength + sqrt(2 * lr * temperature) * noise, noise ~ N(0, 1)
    theta < 0: the weight is dropped, and any absent one of the whole model grows at theta = 0 with a random sign

    Entries in closed rows or columns, such as the padding of an embedding, stay as they are. A tensor may lose all its
    weights; what grows at random fills it again.

    Args:
        strength: of the L1 penalty, >= 0.
        temperature: how strong the noise is, >= 0.
        grow: (weight, kept indices, count, generator) -> indices to activate.
        stop_step: the last update comes before this step.

    Raises:
        ValueError: an argument lies outside its range.
    """

    uses_gradient = False

    def __init__(self, *, strength: float, temperature: float, grow: Grow, stop_step: int) -> None:
        for name, value in (("strength", strength), ("temperature", temperature)):
            if not 0.0 <= value < math.inf:
                raise ValueError(f"{name} must be 0 or more and finite, got {value}")
        self._strength, self._temperature = strength, temperature
        self._stop_step = counts.check_positive(stop_step, name="stop_step")
        self._regrow = Regrow(allot=at_random, grow=grow)
        self._signs: dict[str, Tensor] = {}

    def due(self, step: int) -> bool:
        """Return whether the update acts after this optimizer step."""
        return 0 < step < self._stop_step

    def begin(self, weights: list[Weight]) -> None:
        """Take the signs that the weights have; a zero counts as positive."""
        self._signs = {weight.name: torch.where(weight.values() < 0, -1, 1).to(torch.int8) for weight in weights}

    def apply_all(
        self, weights: list[Weight], step: int, *, optimizer: Optimizer, generator: torch.Generator
    ) -> list[Change]:
        """Move the weights and replace those that fell below zero; no records where none did.

        Raises:
            ValueError: a weight is NaN.
        """
        survives = []
        for weight in weights:
            with naming(weight, step):
                survives.append(self._move_(weight, learning_rate(optimizer, weight), generator))
        if all(bool(mask.all()) for mask in survives):
            return []
        kept = [weight.indices()[mask] for weight, mask in zip(weights, survives, strict=True)]
        signs = [self._signs[weight.name][mask] for weight, mask in zip(weights, survives, strict=True)]
        changes = self._regrow.change_all(weights, survives, step, optimizer=optimizer, generator=generator)
        for weight, places, old, change in zip(weights, kept, signs, changes, strict=True):
            if change.num_dropped or change.num_grown:
                self._signs[weight.name] = _with_new_signs(weight.indices(), places, old, generator)
        return changes

    def state_dict(self) -> dict[str, Any]:
        """Return the sign of each active weight."""
        return {name: signs.clone() for name, signs in self._signs.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with saved signs."""
        self._signs = {name: state[name].to(signs.device).clone() for name, signs in self._signs.items()}

    def _move_(self, weight: Weight, rate: float, generator: torch.Generator) -> Tensor:
        """Drift and noise on one weight; return which of its entries are not below zero."""
        values, signs = weight.values(), self._signs[weight.name]
        noise = torch.randn(values.shape, generator=generator, device="cpu").to(values)
        drift = math.sqrt(2 * rate * self._temperature) * noise - rate * self._strength
        is_open = open_slots(weight, weight.indices())
        theta = values * signs
        theta = torch.where(is_open, theta + drift, theta)
        if ranking.has_nan(theta):
            raise ValueError(f"{int(theta.isnan().count_nonzero())} values are NaN; check data and learning rate")
        weight.set_values_(theta * signs)
        below: Tensor = is_open & (theta < 0)
        return ~below


def _with_new_signs(indices: Tensor, kept: Tensor, signs: Tensor, generator: torch.Generator) -> Tensor:
    """Signs in the new order of the slots, random ones for what was not kept."""
    survives = torch.zeros(indices.shape, dtype=torch.bool, device=indices.device)
    survives[torch.searchsorted(indices, kept)] = True
    drawn = torch.randint(2, (int((~survives).count_nonzero()),), generator=generator, device="cpu", dtype=torch.int8)
    result = torch.empty(indices.shape, dtype=torch.int8, device=indices.device)
    result[survives] = signs
    result[~survives] = (2 * drawn - 1).to(indices.device)
    return result
