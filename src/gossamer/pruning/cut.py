"""One round: score, split the budget, choose masks and apply them."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gossamer import budgets, counts, masks, patterns
from gossamer.budgets.fill import proportional
from gossamer.elementwise import is_elementwise
from gossamer.patterns.unstructured import Unstructured
from gossamer.pruning.active import Active
from gossamer.pruning.channels_last import channels_first, channels_last
from gossamer.pruning.scores import as_entry_scores, as_scores, below_all
from gossamer.pruning.supply import Supply, name_of, wanted
from gossamer.solvers import Solution
from gossamer.weights import MaskedWeight, SparseWeight, numel

Weights = list[MaskedWeight | SparseWeight]
Rule = Callable[..., Any]
# What the driver decides, and a solver is told.
_SETTINGS = ("num_active", "n", "m")
# How far the sparsity that a pattern can have may lie from the asked one.
_TOLERANCE = 0.01


@dataclass(frozen=True)
class Aim:
    """What a round is to reach.

    Attributes:
        sparsity: over all the weights together, in [0, 1).
        budget: splits what is kept.
        pattern: the shape of the masks.
        final: whether the sparsity is the one asked for, which must be met; on the way to it the nearest will do.
    """

    sparsity: float
    budget: budgets.Budget
    pattern: patterns.Pattern
    final: bool = True


def is_solver(rule: Rule) -> bool:
    """Return whether a rule chooses what stays by itself: it asks how much that is."""
    return any(name in inspect.signature(rule).parameters for name in _SETTINGS)


def cut_(parts: list[Active], supply: Supply, criterion: Rule, aim: Aim) -> None:
    """Remove weights down to a sparsity; nothing is changed before all scores are known.

    Args:
        parts: weights of the model to be pruned.
        supply: measures what the criterion asks for.
        criterion: scores, or a solver.
        aim: what is to be reached.

    Raises:
        ValueError: the sparsity cannot be met, or the criterion cannot judge a weight.
    """
    weights = [part.weight for part in parts]
    entries_alone = is_elementwise(criterion) and isinstance(aim.pattern, Unstructured)
    if is_solver(criterion):
        _solve_(weights, supply, criterion, aim)
    elif entries_alone and not any(_returns(weight) for weight in weights):
        _cut_active_(parts, supply, criterion, aim)
    else:
        _cut_whole_(weights, supply, criterion, aim)


def _returns(weight: MaskedWeight | SparseWeight) -> bool:
    """Whether what is gone may come back."""
    return isinstance(weight, MaskedWeight) and weight.latent is not None


def _cut_active_(parts: list[Active], supply: Supply, criterion: Rule, aim: Aim) -> None:
    """Entries one by one: what is gone needs no score."""
    found = supply.gather_active(wanted(criterion), parts)
    scores = {
        part.weight.name: as_entry_scores(criterion(**given), part, rule=criterion)
        for part, given in zip(parts, found, strict=True)
    }
    weights, there = [part.weight for part in parts], {part.weight.name: part.num_active for part in parts}
    if aim.budget is budgets.global_:
        # All compete, so one search for a threshold will do.
        kept = min(counts.num_active(sum(numel(weight) for weight in weights), aim.sparsity), sum(there.values()))
        _check_reached(aim, kept, there, weights)
        chosen = masks.keep_largest_of(scores, kept)
    else:
        each = _counts(weights, there, aim, scores)
        chosen = {name: masks.keep_largest(found, each[name]) for name, found in scores.items()}
    for part in parts:
        part.keep_(chosen[part.weight.name])


def _cut_whole_(weights: Weights, supply: Supply, criterion: Rule, aim: Aim) -> None:
    """Groups of entries: all are scored, what is gone below the others."""
    found = supply.gather(wanted(criterion), weights)
    scores = {}
    for weight in weights:
        judged = as_scores(criterion(**found[weight.name]), weight, rule=criterion, pattern=aim.pattern)
        scores[weight.name] = below_all(judged, weight)
    # A budget sees the scores of what is there, a pattern all of them.
    competing = {weight.name: _competing(weight, scores[weight.name]) for weight in weights}
    kept = _counts(weights, _there(weights), aim, competing)
    chosen = [aim.pattern.keep(scores[weight.name], kept[weight.name]) for weight in weights]
    for weight, mask in zip(weights, chosen, strict=True):
        _apply_(weight, mask)


def _competing(weight: MaskedWeight | SparseWeight, scores: Tensor) -> Tensor:
    gaps = isinstance(weight, MaskedWeight) and not _returns(weight) and weight.num_active < weight.mask.numel()
    return scores[weight.mask] if gaps and isinstance(weight, MaskedWeight) else scores


def _apply_(weight: MaskedWeight | SparseWeight, mask: Tensor) -> None:
    if isinstance(weight, MaskedWeight):
        weight.set_mask_(mask)
    else:
        Active(weight).keep_(mask)


def _solve_(weights: Weights, supply: Supply, solver: Rule, aim: Aim) -> None:
    """Layer after layer, so that each sees the inputs that the pruned layers before it give."""
    pattern = aim.pattern
    if "scores" in inspect.signature(aim.budget).parameters:
        raise ValueError(f"{name_of(solver)} gives no scores to split a budget by; pass a budget of shapes, as uniform")
    if any(isinstance(weight, SparseWeight) for weight in weights):
        raise ValueError(f"{name_of(solver)} works on dense weights; convert with gossamer.to_dense first")
    if any(_returns(weight) for weight in weights):
        raise ValueError(f"{name_of(solver)} moves what stays, so nothing can come back; leave out returning=True")
    kept = _counts(weights, _there(weights), aim, None)
    for weight in weights:
        settings = {"num_active": kept[weight.name], "n": getattr(pattern, "n", None), "m": getattr(pattern, "m", None)}
        own = {name: settings[name] for name in _SETTINGS if name in _open(solver)}
        missing = [name for name, value in own.items() if value is None]
        if missing:
            raise ValueError(f"{name_of(solver)} works on N:M masks; pass pattern=gs.patterns.nm(2, 4)")
        # Unfolded inputs have the channels apart that a group of N:M has side by side.
        grouped = "n" in own and len(weight.shape) > 2
        if grouped and weight.shape[1] % getattr(pattern, "m", 1):
            raise ValueError(
                f"{weight.name} has {weight.shape[1]} input channels, of which {name_of(solver)} makes groups for "
                f"{pattern}: exclude it, or use a criterion of weights"
            )
        given = supply.gather(wanted(solver, settings=_SETTINGS), [weight])[weight.name]
        solution = solver(**(channels_last(given, weight.shape) if grouped else given), **own)
        if not isinstance(solution, Solution):
            raise TypeError(f"{name_of(solver)} must return a Solution, got {type(solution).__name__}")
        values, mask = solution.weight, solution.mask
        if grouped:
            values, mask = channels_first(values, weight.shape), channels_first(mask, weight.shape)
        if isinstance(weight, MaskedWeight):
            # What is gone stays gone, also where a group of N:M then has fewer than n.
            mask = mask & weight.mask
        weight.parameter.data.copy_(values)
        _apply_(weight, mask)


def _open(rule: Rule) -> list[str]:
    parameters = inspect.signature(rule).parameters.values()
    return [one.name for one in parameters if one.default is one.empty]


def _there(weights: Weights) -> dict[str, int]:
    """How many entries of each weight may stay."""
    return {weight.name: numel(weight) if _returns(weight) else weight.num_active for weight in weights}


def _counts(weights: Weights, there: dict[str, int], aim: Aim, scores: dict[str, Tensor] | None) -> dict[str, int]:
    """How many weights each tensor keeps: what the budget asks, as near as the pattern can."""
    shapes = {weight.name: weight.shape for weight in weights}
    by_scores = {} if scores is None or "scores" not in inspect.signature(aim.budget).parameters else {"scores": scores}
    asked = aim.budget(shapes, sparsity=aim.sparsity, **by_scores)
    if isinstance(aim.pattern, Unstructured):
        asked = _within(asked, there)
    kept = {}
    for weight in weights:
        # A truly sparse weight is a vector of what is there.
        room = min(asked[weight.name], weight.parameter.numel())
        try:
            kept[weight.name] = aim.pattern.nearest(tuple(weight.parameter.shape), room)
        except ValueError as error:
            raise ValueError(f"{weight.name}: {error}") from error
    _check_reached(aim, sum(kept.values()), there, weights)
    return kept


def _check_reached(aim: Aim, kept: int, there: dict[str, int], weights: Weights) -> None:
    total = sum(numel(weight) for weight in weights)
    reached = counts.sparsity_of(kept, total)
    if aim.final and not math.isclose(reached, aim.sparsity, abs_tol=_TOLERANCE + 1.0 / max(total, 1)):
        raise ValueError(
            f"a sparsity of {aim.sparsity:.4g} cannot be had with {aim.pattern} on these weights, of which "
            f"{counts.sparsity_of(sum(there.values()), total):.4g} are gone already; the nearest is {reached:.4g}: "
            "ask for that, or take another pattern"
        )


def _within(asked: dict[str, int], there: dict[str, int]) -> dict[str, int]:
    """What is gone cannot stay: where a tensor has too little left, the others keep more."""
    if all(asked[name] <= many for name, many in there.items()):
        return asked
    total = min(sum(asked.values()), sum(there.values()))
    wanted = [float(asked[name]) for name in there]
    return dict(zip(there, proportional(total, wanted, [0] * len(there), list(there.values())), strict=True))
