"""The exact count-th largest of a long vector, by two bounds that a sample gives and one pass between them."""

import math

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

_SAMPLE = 20_000


def kth_largest(scores: Tensor, count: int) -> Tensor:
    """Return the value of the `count` largest scores that is the smallest.

    Args:
        scores: shape [n], no NaN.
        count: 1 <= count <= n.

    Returns:
        Shape [], dtype of the scores.

    Cost: O(n); for a long vector on the CPU one pass over it, several times faster than `kthvalue`.

    Example:
        >>> kth_largest(torch.tensor([5.0, 1.0, 5.0, 4.0]), 3)
        tensor(4.)
    """
    if scores.numel() >= 10 * _SAMPLE and scores.device.type == "cpu" and scores.is_floating_point():
        found = _by_sample(_as_array(scores), count)
        if found is not None:
            return torch.tensor(found, dtype=scores.dtype)
    return scores.kthvalue(scores.numel() - count + 1).values


def _as_array(scores: Tensor) -> NDArray[np.floating]:
    # Numpy has no bfloat16, and float32 holds every half precision number.
    wide = scores if scores.dtype == torch.float64 else scores.float()
    array: NDArray[np.floating] = wide.numpy()
    return array


def _by_sample(scores: NDArray[np.floating], count: int) -> float | None:
    """The value, or None where the sample misleads."""
    sample = -np.sort(-scores[:: scores.size // _SAMPLE])
    rank = count / scores.size * sample.size
    # Four deviations of the rank: nearly always enough, and if not, only time is lost.
    margin = 2 * math.sqrt(sample.size) + 2
    upper = sample[max(0, math.floor(rank - margin))]
    lower = sample[min(sample.size - 1, math.ceil(rank + margin))]
    between = np.empty(min(scores.size // 8, 16 * _SAMPLE + scores.size // 10), dtype=scores.dtype)
    num_above, num_between = _split(scores, lower, upper, between)
    if num_between < 0 or not num_above < count <= num_above + num_between:
        return None
    place = num_between - (count - num_above)
    return float(np.partition(between[:num_between], place)[place])


@njit(cache=True, nogil=True)
def _split(scores: NDArray[np.floating], lower: float, upper: float, between: NDArray[np.floating]) -> tuple[int, int]:
    """Count what lies above both bounds and collect what lies between; -1 where that is more than there is room for."""
    num_above = 0
    num_between = 0
    for i in range(scores.size):
        value = scores[i]
        if value > upper:
            num_above += 1
        elif value >= lower:
            if num_between == between.size:
                return num_above, -1
            between[num_between] = value
            num_between += 1
    return num_above, num_between
