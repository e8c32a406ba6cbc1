"""Alternate between sparse and dense: at some steps only the best weights stay, at others all come back."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from gossamer import counts
from gossamer.budgets import Budget
from gossamer.updates.change import Change
from gossamer.updates.select import keep_best, open_places
from gossamer.weights import MaskedWeight, Weight
from gossamer.weights.state import move_state_
from gossamer.weights.undo import assign_


@dataclass(frozen=True, kw_only=True)
class Alternate:
    """Compress masked weights at some steps, and open them all again at others.

    Weights that come back start without optimizer state: at zero, or at what they were where the weight keeps latent
    values, see `MaskedWeight.keep_latent_`.

    Attributes:
        drop: criterion of the active values; the smallest scores are dropped.
        sparsity: fraction removed in the sparse phases, in [0, 1).
        budget: (shapes, sparsity=...) -> number of weights that each tensor keeps. None: all tensors compete.
        compress_steps: after these steps the sparse phases begin, ascending, from 1 on.
        open_steps: after these the dense ones begin, each between two of the others or after the last.
        reset_state: whether the optimizer starts anew with each dense phase: all that it remembers becomes zero.
    """

    drop: Callable[[Tensor], Tensor]
    sparsity: float
    budget: Budget | None
    compress_steps: tuple[int, ...]
    open_steps: tuple[int, ...]
    reset_state: bool = False

    def __post_init__(self) -> None:
        """Check what can be checked before training."""
        counts.check_sparsity(self.sparsity)
        turns = [step for pair in zip(self.compress_steps, self.open_steps, strict=False) for step in pair]
        turns += self.compress_steps[len(self.open_steps) :]
        fit = len(self.compress_steps) - len(self.open_steps) in (0, 1) and turns == sorted({*turns})
        if not turns or not fit or turns[0] < 1:
            raise ValueError(
                f"sparse phases begin after steps {self.compress_steps}, dense ones after {self.open_steps}; they must "
                "take turns, ascending from 1 on, and a sparse one comes first"
            )

    @property
    def uses_gradient(self) -> bool:
        """False: weights are judged by their values."""
        return False

    def due(self, step: int) -> bool:
        """Return whether a phase begins after this optimizer step."""
        return step in self.compress_steps or step in self.open_steps

    def apply(
        self, weight: Weight, weights: list[Weight], step: int, *, optimizer: Optimizer, generator: torch.Generator
    ) -> Change:
        """Compress or open one weight.

        Raises:
            ValueError: the weight is truly sparse.
        """
        if not isinstance(weight, MaskedWeight):
            raise ValueError(
                f"{weight.name} is truly sparse, and a phase in which all weights exist is not; start from a dense "
                "model, such as gs.to_dense(model)"
            )
        if step in self.open_steps:
            if self.reset_state and weight is weights[0]:
                forget_(optimizer)
            return _open(weight, optimizer)
        return self._compress(weight, weights, optimizer)

    def _compress(self, weight: Weight, weights: list[Weight], optimizer: Optimizer) -> Change:
        before = weight.num_active
        kept = keep_best(
            weight, weights, score=lambda one: self.drop(one.values()), sparsity=self.sparsity, budget=self.budget
        )
        none = weight.indices().new_empty(0)
        weight.change_(kept.nonzero().flatten(), none, none.float(), optimizer)
        return Change(weight.name, before - weight.num_active, 0)


def phases(
    *, start_step: int, stop_step: int, num_sparse_steps: int, num_dense_steps: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return after which steps sparse phases begin, and after which dense ones, so that the last is sparse.

    Args:
        start_step: the first sparse phase begins after this step, >= 1.
        stop_step: no dense phase begins from here on, and one that still lasts ends, > start_step.
        num_sparse_steps: length of a sparse phase, >= 1.
        num_dense_steps: length of a dense phase, >= 1.

    Raises:
        ValueError: a length below 1, or an empty span of steps.

    Example:
        >>> phases(start_step=2, stop_step=12, num_sparse_steps=3, num_dense_steps=2)
        ((2, 7, 12), (5, 10))
    """
    counts.check_positive(num_sparse_steps, name="num_sparse_steps")
    counts.check_positive(num_dense_steps, name="num_dense_steps")
    if not 1 <= start_step < stop_step:
        raise ValueError(f"phases need 1 <= start_step < stop_step, got {start_step} and {stop_step}")
    compress = tuple(range(start_step, stop_step, num_sparse_steps + num_dense_steps))
    opening = tuple(step + num_sparse_steps for step in compress if step + num_sparse_steps < stop_step)
    return (*compress, stop_step) if len(opening) == len(compress) else compress, opening


def forget_(optimizer: Optimizer) -> None:
    """Set all that an optimizer remembers of its parameters to zero, and its counts of steps with it."""
    for parameter in [each for group in optimizer.param_groups for each in group["params"]]:
        move_state_(optimizer, parameter, parameter.shape, torch.zeros_like)
        state = optimizer.state.get(parameter, {})
        # Else Adam would take moments that start at zero for settled ones.
        if isinstance(state.get("step"), Tensor):
            assign_(state, "step", torch.zeros_like(state["step"]))


def _open(weight: MaskedWeight, optimizer: Optimizer) -> Change:
    absent = open_places(weight) & ~weight.mask
    grown = absent.flatten().nonzero().flatten()
    values = weight.dense_values()[absent]
    weight.change_(torch.arange(weight.num_active, device=grown.device), grown, values, optimizer)
    return Change(weight.name, 0, grown.numel())
