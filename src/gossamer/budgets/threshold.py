"""How many of the largest scores of a whole model each tensor has, without a sort and without a copy."""

import math
from collections.abc import Mapping

from torch import Tensor

from gossamer import masks
from gossamer.budgets.budget import Shapes, check_names


def counts_of_largest(scores: Mapping[str, Tensor], total: int) -> dict[str, int]:
    """Return how many of the `total` largest scores each tensor has; ties go to the first tensors.

    Args:
        scores: of any shapes.
        total: how many to count, from 0 to the number of scores.

    Returns:
        Counts by name, in the order of the mapping.

    Raises:
        ValueError: a score is NaN, or there are fewer scores than asked for.

    Cost: O(n), a few passes over the scores without a sort.

    Example:
        >>> import torch
        >>> counts_of_largest({"a": torch.tensor([5.0, 1.0, 2.0]), "b": torch.tensor([4.0, 2.0])}, 3)
        {'a': 2, 'b': 1}
    """
    if total > (many := sum(values.numel() for values in scores.values())):
        raise ValueError(f"{total} weights are to stay, and {many} have a score; ask for a higher sparsity")
    marked = masks.keep_largest_of(scores, total)
    return {name: int(mask.count_nonzero()) for name, mask in marked.items()}


def check_scores(shapes: Shapes, scores: Mapping[str, Tensor]) -> None:
    """Raise unless each tensor has a score for each entry, or a vector of them for those that are still there.

    Args:
        shapes: shape of each weight by name.
        scores: scores of each weight by name.

    Raises:
        ValueError: a name lacks or is unknown, or a shape differs.
    """
    check_names(scores, shapes, what="scores")
    for name, shape in shapes.items():
        found = scores[name]
        if tuple(found.shape) != tuple(shape) and (found.dim() != 1 or found.numel() > math.prod(shape)):
            raise ValueError(f"{name} has shape {tuple(shape)}, its scores {tuple(found.shape)}; pass one shape")
