"""Hoyer-square: a smooth stand-in for the number of weights that does not change with their scale."""

import math

import torch
from torch import Tensor

from gossamer.penalties.precision import widened


def hoyer_square(weight: Tensor) -> Tensor:
    """Divide the square of the sum of magnitudes by the sum of squares.

    penalty = (sum |w|)^2 / sum w^2

    It lies between 1, where one weight is left, and the number of weights, where all have the same magnitude; n equal
    weights among zeros make n. Its gradient pulls in the weights below sum w^2 / sum |w| and pushes out those above.

    Args:
        weight: current values, any shape [*].

    Returns:
        Scalar, float32, or float64 for a weight of that type; 0 where all weights are zero or there are none. Its
        gradient in a weight that is 0 is 0.

    Example:
        >>> hoyer_square(torch.tensor([2.0, -2.0, 2.0, 0.0]))
        tensor(3.)

    Source:
        Yang, Wen, Li. DeepHoyer: Learning Sparser Neural Network with Differentiable Scale-Invariant Sparsity Measures.
        ICLR 2020, arXiv:1908.09979.
    """
    if not weight.numel():
        return widened(weight).sum()
    values = widened(weight)
    # The value does not depend on the scale: with a largest weight of 1 the squares neither overflow nor vanish.
    largest = values.detach().abs().amax()
    values = values / torch.where((largest > 0) & (largest < math.inf), largest, 1.0)
    squares = values.square().sum()
    zero = squares == 0
    return torch.where(zero, 0.0, values.abs().sum().square() / torch.where(zero, 1.0, squares))
