"""Polarization: push the factors of channels either to zero or to one common level."""

import math

from torch import Tensor

from gossamer.penalties.precision import widened


def polarization(scale: Tensor, *, t: float) -> Tensor:
    """Sum the magnitudes of the factors, less their distances from the mean.

    penalty = t sum |gamma| - sum |gamma - mean(gamma)|

    Among factors in [0, a] it is smallest where each is 0 or a, and a share of (2 - t) / 4 is a: the larger t, the more
    go. The mean is that of the paper only if the factors of all layers come in one tensor, as by `torch.cat`.

    Args:
        scale: factor of each channel, shape [units].
        t: how much zero is preferred, any finite number; the name in the paper.

    Returns:
        Scalar, float32, or float64 for a scale of that type; it may be negative; 0 where all factors are zero or there
        are none. Its gradient where a magnitude or a distance is 0 takes 0 for the slope of that part.

    Raises:
        ValueError: t is not a finite number.

    Example:
        >>> import torch
        >>> polarization(torch.tensor([0.0, 0.0, 1.0, 1.0]), t=1.2)
        tensor(0.4000)

    Source:
        Zhuang, Zhang, Huang, Zeng, Shuang, Li. Neuron-level Structured Pruning using Polarization Regularizer. NeurIPS
        2020.
        Differs: nothing here holds the factors in the range [0, a] of the paper; clamp them after each step.
    """
    if not math.isfinite(t):
        raise ValueError(f"t must be a finite number, got {t}; between -2 and 2 some factors go and some stay")
    values = widened(scale)
    return t * values.abs().sum() - (values - values.mean()).abs().sum()
