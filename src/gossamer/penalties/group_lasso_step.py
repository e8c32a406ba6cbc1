"""The proximal step of the group lasso: it sets whole groups of weights to zero."""

import torch
from torch import Tensor

from gossamer.penalties.group_norms import group_norms
from gossamer.penalties.precision import check_threshold, widened


def group_lasso_step(weight: Tensor, groups: Tensor, *, threshold: float) -> Tensor:
    """Shorten each group by the threshold times the square root of its size, and to exactly zero where it is shorter.

    result_g = max(0, 1 - threshold sqrt(n_g) / ||w_g||) w_g
             = argmin_x  ||x - w_g||^2 / 2 + threshold sqrt(n_g) ||x||

    Args:
        weight: current values, any shape [*].
        groups: number of the group of each entry, any integers, shape [*], int64.
        threshold: learning rate times strength of the penalty, >= 0.

    Returns:
        New values, shape [*], type of the weight, without a gradient.

    Raises:
        TypeError: groups is not int64.
        ValueError: the shapes differ, or the threshold is negative or not a number.

    Example:
        >>> group_lasso_step(torch.tensor([[3.0, 4.0], [0.5, 0.5]]), torch.tensor([[0, 0], [1, 1]]), threshold=0.7072)
        tensor([[2.3999, 3.1999],
                [0.0000, 0.0000]])

    Source:
        Yuan, Lin. Model selection and estimation in regression with grouped variables. Journal of the Royal
        Statistical Society B 68, 2006.
    """
    check_threshold(threshold)
    values = widened(weight.detach())
    found = group_norms(values, groups)
    reach = threshold * found.sizes.to(values.dtype).sqrt()
    # "Not above" rather than "below": a NaN goes on as a NaN.
    factor = torch.where(found.norms <= reach, 0.0, 1.0 - reach / found.norms)[found.places]
    return torch.where(factor == 0, 0.0, factor * values).to(weight.dtype)
