"""How many of the largest scores of a whole model each tensor has, without a sort and without a copy."""

from collections.abc import Mapping

import torch
from torch import Tensor

from gossamer import ranking
from gossamer.budgets.budget import Shapes, check_names


def counts_of_largest(scores: Mapping[str, Tensor], total: int) -> dict[str, int]:
    """Return how many of the `total` largest scores each tensor has; ties go to the first tensors.

    Args:
        scores: of any shapes, no NaN.
        total: how many to count, from 0 to the number of scores.

    Returns:
        Counts by name, in the order of the mapping.

    Cost: O(n), a few passes over the scores without a sort.

    Example:
        >>> counts_of_largest({"a": torch.tensor([5.0, 1.0, 2.0]), "b": torch.tensor([4.0, 2.0])}, 3)
        {'a': 2, 'b': 1}
    """
    if not total:
        return dict.fromkeys(scores, 0)
    dtype = torch.float64 if any(values.dtype == torch.float64 for values in scores.values()) else torch.float32
    flat = {name: values.detach().to(dtype) for name, values in scores.items()}
    threshold = ranking.kth_largest(list(flat.values()), total)
    found = {name: int((values > threshold).count_nonzero()) for name, values in flat.items()}
    missing = total - sum(found.values())
    for name, values in flat.items():
        equal = min(missing, int((values == threshold).count_nonzero()))
        found[name] += equal
        missing -= equal
    return found


def check_scores(shapes: Shapes, scores: Mapping[str, Tensor]) -> None:
    """Raise unless each tensor has scores of its shape that are numbers.

    Args:
        shapes: shape of each weight by name.
        scores: scores of each weight by name.

    Raises:
        ValueError: a name lacks or is unknown, a shape differs, or a score is NaN.
    """
    check_names(scores, shapes, what="scores")
    for name, shape in shapes.items():
        if tuple(scores[name].shape) != tuple(shape):
            raise ValueError(f"{name} has shape {tuple(shape)}, its scores {tuple(scores[name].shape)}; pass one shape")
        if ranking.has_nan(scores[name]):
            raise ValueError(
                f"{int(scores[name].isnan().sum())} scores of {name} are NaN; scores must be numbers, "
                "check data and loss"
            )
