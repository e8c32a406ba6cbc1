"""Magnitude: the smaller a weight, the less it matters."""

from torch import Tensor

from gossamer.elementwise import elementwise


@elementwise
def magnitude(weight: Tensor) -> Tensor:
    """Score each weight by its absolute value.

    score = |w|

    Args:
        weight: current values, any shape [*].

    Returns:
        Scores, shape [*], float32, never negative; larger means keep.

    Example:
        >>> import torch
        >>> magnitude(torch.tensor([-2.0, 0.5]))
        tensor([2.0000, 0.5000])

    Source:
        Janowsky. Pruning versus clipping in neural networks. Physical Review A 39, 1989.
    """
    return weight.detach().abs().float()
