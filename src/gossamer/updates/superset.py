"""A forward set that computes and a larger backward set that learns; nothing else moves."""

import math
from collections.abc import Mapping
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from gossamer import counts, criteria
from gossamer.budgets import Budget
from gossamer.penalties import l1_step
from gossamer.updates.change import Change, learning_rate, naming
from gossamer.updates.reselect import latent, swap
from gossamer.updates.select import keep_best, open_places
from gossamer.weights import MaskedWeight, Weight
from gossamer.weights.state import clear_state_
from gossamer.weights.undo import write_


@final
class Superset:
    """Keep the largest values active, train more than those, and leave the rest as they are until they rank again.

    A: the largest |w|, at `sparsity`, with which the network computes
    B: the largest |w|, at `backward_sparsity`, A among them, which the optimizer moves
    after each step: w <- sign(w) max(0, |w| - lr * strength * p), p = 1 in A, 1 / (1 - sparsity) in B without A

    Args:
        sparsity: of the forward set, in [0, 1).
        backward_sparsity: of the backward set, in [0, sparsity].
        budget: (shapes, sparsity=...) -> number of weights that each tensor keeps. None: all tensors compete.
        strength: of the penalty, >= 0.
        update_every: steps between two choices of the sets, >= 1.
        stop_step: the last one comes before this step; then the sets stay, and the penalty ends.

    Raises:
        ValueError: an argument lies outside its range.
    """

    uses_gradient = False

    def __init__(
        self,
        *,
        sparsity: float,
        backward_sparsity: float,
        budget: Budget | None,
        strength: float,
        update_every: int,
        stop_step: int,
    ) -> None:
        if not 0.0 <= backward_sparsity <= counts.check_sparsity(sparsity):
            raise ValueError(
                f"backward_sparsity must lie in [0, {sparsity}] (sparsity), got {backward_sparsity}; more weights "
                "learn than compute"
            )
        if not 0.0 <= strength < math.inf:
            raise ValueError(f"strength must be 0 or more and finite, got {strength}")
        self._sparsity, self._backward_sparsity, self._budget = sparsity, backward_sparsity, budget
        self._strength = strength
        self._update_every = counts.check_positive(update_every, name="update_every")
        self._stop_step = counts.check_positive(stop_step, name="stop_step")
        self._weights: list[MaskedWeight] = []

    def due(self, step: int) -> bool:
        """Return whether the update acts after this optimizer step."""
        return 0 < step < self._stop_step

    def begin(self, weights: list[Weight]) -> None:
        """Choose the first sets.

        Raises:
            ValueError: a weight keeps no latent values, or is truly sparse.
        """
        self._weights = [latent(weight) for weight in weights]
        self._choose()

    def apply_all(
        self, weights: list[Weight], step: int, *, optimizer: Optimizer, generator: torch.Generator
    ) -> list[Change]:
        """Shrink what learns and, where it is time, choose the sets anew; records only then.

        Raises:
            ValueError: a value is NaN.
        """
        for weight in self._weights:
            with naming(weight, step):
                self._shrink_(weight, learning_rate(optimizer, weight))
        if step % self._update_every:
            return []
        changes = self._choose()
        for weight in self._weights:
            _forget_outside(weight, optimizer)
        return changes

    def state_dict(self) -> dict[str, Any]:
        """Return the backward set, one bit an entry; the forward set is the mask."""
        return {
            weight.name: torch.from_numpy(np.packbits(_reach(weight).cpu().numpy().reshape(-1)))
            for weight in self._weights
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with a saved backward set."""
        for weight in self._weights:
            bits = np.unpackbits(state[weight.name].cpu().numpy(), count=weight.mask.numel()).astype(bool)
            weight.reach = torch.from_numpy(bits).view(weight.shape).to(weight.mask.device)

    def _choose(self) -> list[Change]:
        # All sets before the first swap: what a weight computes with does not change what it is worth.
        forward = [self._best(weight, self._sparsity) for weight in self._weights]
        backward = [self._best(weight, self._backward_sparsity) for weight in self._weights]
        changes = []
        for weight, mask, reach in zip(self._weights, forward, backward, strict=True):
            changes.append(swap(weight, mask))
            # A budget may round the smaller set past the larger one.
            weight.reach = mask | reach
        return changes

    def _best(self, weight: MaskedWeight, sparsity: float) -> Tensor:
        return keep_best(weight, self._weights, score=_score, sparsity=sparsity, budget=self._budget)

    def _shrink_(self, weight: MaskedWeight, rate: float) -> None:
        if not self._strength:
            return
        threshold = rate * self._strength
        values = weight.dense_values()
        beside = l1_step(values, threshold=threshold / (1.0 - self._sparsity))
        values = torch.where(_reach(weight), beside, values)
        # Absent entries are zero in the parameter, active ones in the latent values.
        weight.latent = values.masked_fill(weight.mask, 0.0)
        write_(weight.parameter.data, l1_step(weight.parameter.data, threshold=threshold))


def _score(weight: MaskedWeight) -> Tensor:
    return criteria.magnitude(weight.dense_values()).masked_fill(~open_places(weight), -torch.inf)


def _reach(weight: MaskedWeight) -> Tensor:
    return torch.ones_like(weight.mask) if weight.reach is None else weight.reach


def _forget_outside(weight: MaskedWeight, optimizer: Optimizer) -> None:
    """What left the backward set must not come back with old momentum."""
    clear_state_(optimizer, weight.parameter, ~_reach(weight))
