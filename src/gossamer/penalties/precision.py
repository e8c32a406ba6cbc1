"""The precision in which penalties are summed, and the check of a threshold."""

import torch
from torch import Tensor


def widened(tensor: Tensor) -> Tensor:
    """Return a tensor in float32, or as it is if it is float64: half precision is too coarse to sum in.

    Args:
        tensor: any shape.

    Example:
        >>> widened(torch.ones(1, dtype=torch.float16)).dtype
        torch.float32
    """
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def check_threshold(threshold: float) -> float:
    """Return a threshold if it is 0 or more, else raise.

    Raises:
        ValueError: it is negative or not a number.
    """
    if not threshold >= 0:
        raise ValueError(
            f"threshold must be 0 or more, got {threshold}; it is the learning rate times the strength of the penalty"
        )
    return threshold
