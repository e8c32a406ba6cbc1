"""The proximal step of L1: the soft threshold, which sets small weights to zero."""

import torch
from torch import Tensor

from gossamer.penalties.precision import check_threshold, widened


def l1_step(weight: Tensor, *, threshold: float) -> Tensor:
    """Move each weight towards zero by the threshold, and to exactly zero where it would pass it.

    result = sign(w) max(|w| - threshold, 0) = argmin_x  (x - w)^2 / 2 + threshold |x|

    Copy it into the parameter after each optimizer step, in place of a gradient of `l1` in the loss.

    Args:
        weight: current values, any shape [*].
        threshold: learning rate times strength of the penalty, >= 0.

    Returns:
        New values, shape [*], type of the weight, without a gradient.

    Raises:
        ValueError: the threshold is negative or not a number.

    Example:
        >>> l1_step(torch.tensor([2.0, -0.75, 0.5]), threshold=0.5)
        tensor([ 1.5000, -0.2500,  0.0000])

    Source:
        Daubechies, Defrise, De Mol. An iterative thresholding algorithm for linear inverse problems with a sparsity
        constraint. Communications on Pure and Applied Mathematics 57, 2004, arXiv:math/0307152.
    """
    check_threshold(threshold)
    values = widened(weight.detach())
    # "Not above" rather than "below": a NaN goes on as a NaN.
    return torch.where(values.abs() <= threshold, 0.0, values - threshold * values.sign()).to(weight.dtype)
