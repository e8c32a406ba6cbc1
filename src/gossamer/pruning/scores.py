"""What criteria return, brought to the shape of the weight; what is gone already stays gone."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gossamer import patterns, ranking
from gossamer.pruning.active import Active
from gossamer.pruning.supply import name_of
from gossamer.weights import MaskedWeight, Weight


def as_scores(found: Any, weight: Weight, *, rule: Callable[..., Any], pattern: patterns.Pattern) -> Tensor:
    """Return scores of the shape of the weight's parameter; a score of a whole output is shared by its row.

    Args:
        found: what the criterion returned.
        weight: the weight that it judged.
        rule: the criterion, named in errors.
        pattern: the shape of the masks.

    Raises:
        TypeError: the criterion returned no tensor.
        ValueError: scores of another shape, with NaN, or of whole outputs where the pattern takes outputs apart.
    """
    shape = weight.parameter.shape
    scores = _checked(found, weight, rule)
    units = found.shape == shape[:1] and found.shape != shape
    if found.shape != shape and not units:
        raise ValueError(
            f"{name_of(rule)} returned scores of shape {tuple(found.shape)} for {weight.name}, whose shape is "
            f"{tuple(shape)}; return one score for each entry, or one for each output"
        )
    if not units:
        return scores
    if not keeps_rows_whole(pattern, weight.shape):
        raise ValueError(
            f"{name_of(rule)} judges whole outputs, and {pattern} takes them apart; pass pattern=gs.patterns.row()"
        )
    per_row = weight.parameter[0].numel()
    return (scores / per_row).reshape(-1, *[1] * (len(shape) - 1)).expand(shape)


def as_entry_scores(found: Any, part: Active, *, rule: Callable[..., Any]) -> Tensor:
    """Return the scores of the active entries of a weight, a vector.

    Args:
        found: what the criterion returned for vectors of the active entries.
        part: what is there of the weight.
        rule: the criterion, named in errors.

    Raises:
        TypeError: the criterion returned no tensor.
        ValueError: scores of another shape, or with NaN.
    """
    scores = _checked(found, part.weight, rule)
    shape = (part.num_active,)
    if tuple(scores.shape) != shape:
        raise ValueError(
            f"{name_of(rule)} returned scores of shape {tuple(scores.shape)} for the entries of {part.weight.name}, of "
            f"which there are {shape[0]}; it is marked as elementwise: return one score for each, or take the mark off"
        )
    return scores


def _checked(found: Any, weight: Weight, rule: Callable[..., Any]) -> Tensor:
    if not isinstance(found, Tensor):
        raise TypeError(f"{name_of(rule)} must return a tensor of scores or a Solution, got {type(found).__name__}")
    if ranking.has_nan(found):
        raise ValueError(
            f"{name_of(rule)} gave {int(found.isnan().sum())} scores of {weight.name} that are NaN; check the data, "
            "the loss and the weights"
        )
    return found


def below_all(scores: Tensor, weight: Weight) -> Tensor:
    """Give what is absent already scores below those of all active entries, unless it may return."""
    if not isinstance(weight, MaskedWeight) or weight.latent is not None:
        return scores
    if weight.num_active == weight.mask.numel() or not weight.num_active:
        return scores
    lowest = scores.amin()
    return torch.where(weight.mask, scores, lowest - lowest.abs().clamp(min=1.0))


def keeps_rows_whole(pattern: patterns.Pattern, shape: tuple[int, ...]) -> bool:
    """Return whether masks of a pattern take or leave whole outputs."""
    # Two rows tell as much as all of them.
    groups = pattern.groups((min(2, shape[0]), *shape[1:])).flatten(1)
    return bool((groups == groups[:, :1]).all())
