"""L1: the sum of the magnitudes, which pulls all weights to zero at the same speed."""

from torch import Tensor

from gossamer.penalties.precision import widened


def l1(weight: Tensor) -> Tensor:
    """Sum the magnitudes of the weights.

    penalty = sum |w|

    A gradient step on it makes weights small, hardly ever zero: `l1_step` sets them to zero.

    Args:
        weight: current values, any shape [*].

    Returns:
        Scalar, float32, or float64 for a weight of that type; 0 for an empty tensor. Its gradient at 0 is 0.

    Example:
        >>> import torch
        >>> l1(torch.tensor([2.0, -1.0, 0.0]))
        tensor(3.)

    Source:
        Tibshirani. Regression shrinkage and selection via the lasso. Journal of the Royal Statistical Society B 58,
        1996.
    """
    return widened(weight).abs().sum()
