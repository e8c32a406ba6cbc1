"""What a solver returns: which weights stay, what they become, and what that costs."""

from typing import NamedTuple

import torch
from torch import Tensor


class Solution(NamedTuple):
    """A pruned weight whose remaining entries have been moved to make up for the removed ones.

    Attributes:
        mask: which entries are active, bool, shape of the weight.
        weight: the new values, shape and dtype of the weight, exactly zero where masked.
        loss_increase: the solver's own estimate of what the loss gains; exact where the loss is the quadratic
            that the solver assumes.
    """

    mask: Tensor
    weight: Tensor
    loss_increase: float


def make(weight: Tensor, solved: Tensor, mask: Tensor, loss_increase: float) -> Solution:
    """Bring values found in float64 back to the shape and dtype of the weight.

    Args:
        weight: what the solver was given, any shape [*].
        solved: new values, float64, as many as the weight has.
        mask: bool, as many entries.
        loss_increase: what the solver found.

    Returns:
        The solution; its tensors share no memory with the arguments.
    """
    values = torch.where(mask, solved, 0.0).to(weight.dtype).reshape(weight.shape)
    return Solution(mask.reshape(weight.shape).clone(), values, float(loss_increase))
