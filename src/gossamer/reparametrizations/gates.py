"""Gates: learned tensors that broadcast to the weight which they switch."""

import math
from collections.abc import Sequence

from torch import Tensor


def weights_per_gate(gates: Tensor, weight: Tensor) -> int:
    """Return how many entries of a weight share one gate; 0 where there are none.

    Args:
        gates: any shape that broadcasts to that of the weight, such as (rows, 1) for one gate an output.
        weight: the weight, shape [*].

    Raises:
        ValueError: the shape of the gates does not broadcast to that of the weight.

    Example:
        >>> import torch
        >>> weights_per_gate(torch.ones(3, 1), torch.ones(3, 4))
        4
    """
    if not _fits(gates.shape, weight.shape):
        raise ValueError(
            f"shape {tuple(gates.shape)} does not broadcast to the weight's {tuple(weight.shape)}; use the latter for "
            "one gate a weight, or 1 along the axes that share a gate"
        )
    return math.prod(weight.shape) // max(gates.numel(), 1)


def _fits(shape: Sequence[int], weight_shape: Sequence[int]) -> bool:
    if len(shape) > len(weight_shape):
        return False
    ends = zip(reversed(shape), reversed(weight_shape), strict=False)
    return all(size in (1, full) for size, full in ends)
