"""Guided stochastic exploration: the gradient at random places alone, and growth at the best of them."""

from collections.abc import Callable

import torch
from torch import Tensor

from gossamer import ranking
from gossamer.growth.places import num_absent
from gossamer.growth.random import random
from gossamer.masks import largest


def guided(
    gradient_at: Callable[[Tensor], Tensor],
    kept: Tensor,
    closed_rows: Tensor,
    closed_columns: Tensor,
    *,
    count: int,
    num_candidates: int,
    generator: torch.Generator,
) -> Tensor:
    """Choose, of candidates drawn uniformly from the absent entries, the `count` with the largest gradient.

    Args:
        gradient_at: linear indices, ascending -> gradient there, shape [n]; see `weights.Weight.gradient_at`.
        kept: linear indices that are active, ascending, shape [n], int64.
        closed_rows: bool, shape [rows]; where nothing grows.
        closed_columns: bool, shape [columns], likewise.
        count: how many to choose.
        num_candidates: how many absent entries to draw; `count` where it is less, all absent ones where it is more:
            then this is growth by the gradient.
        generator: source of randomness, on the CPU.

    Returns:
        Linear indices, ascending, shape [count], int64; of equal gradients those with the lower index.

    Raises:
        ValueError: the gradient holds NaN at a candidate, or fewer than `count` entries are absent.

    Source:
        Heddes, Srinivasa, Givargis, Nicolau. Always-sparse training by growing connections with guided stochastic
        exploration. 2024, arXiv:2401.06898.
        Differs: candidates are different absent entries, exactly as many as asked; the paper's are drawn by neuron
        pairs, and those that repeat or are active go to waste. Of its distributions this is the uniform one.

    Cost: O(n + candidates), and what `gradient_at` takes: a truly sparse linear layer multiplies out
    candidates * batch products, whatever its size.

    Example:
        >>> none, slopes = torch.zeros(2, dtype=torch.bool), torch.tensor([9.0, -3.0, 1.0, 2.0])
        >>> draw = torch.Generator()
        >>> guided(lambda at: slopes[at], torch.tensor([0]), none, none, count=1, num_candidates=3, generator=draw)
        tensor([1])
    """
    if not count:
        return kept.new_empty(0)
    drawn = max(count, min(num_candidates, num_absent(kept, closed_rows, closed_columns)))
    candidates = random(kept, closed_rows, closed_columns, count=drawn, generator=generator)
    scores = gradient_at(candidates).detach().abs().float()
    if ranking.has_nan(scores):
        raise ValueError("the gradient holds NaN, so nothing can be grown by it; check the data and the learning rate")
    return candidates[largest(scores, count)]
