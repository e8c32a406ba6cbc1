"""Selection within each row of a matrix, the same number in all of them."""

import torch
from torch import Tensor


def keep_in_rows(scores: Tensor, count: int) -> Tensor:
    """Mark the `count` largest scores of each row; equal scores are taken in order of their place.

    Args:
        scores: shape [rows, columns], no NaN.
        count: 0 <= count <= columns.

    Returns:
        Mask, bool, shape [rows, columns].

    Cost: O(entries) selection, no full sort.

    Example:
        >>> keep_in_rows(torch.tensor([[1.0, 3.0, 3.0], [2.0, 0.0, 1.0]]), 1)
        tensor([[False,  True, False],
                [ True, False, False]])
    """
    if not count or not scores.numel():
        return torch.zeros_like(scores, dtype=torch.bool)
    threshold = scores.kthvalue(scores.shape[1] - count + 1, dim=1, keepdim=True).values
    above, equal = scores > threshold, scores == threshold
    missing = count - above.sum(1, keepdim=True)
    return above | (equal & (equal.cumsum(1) <= missing))
