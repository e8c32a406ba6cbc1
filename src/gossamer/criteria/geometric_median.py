"""Geometric median: a filter in the middle of the others can be replaced by them."""

import torch
from torch import Tensor

from gossamer.criteria.inputs import filters


def geometric_median(weight: Tensor) -> Tensor:
    """Score each unit by the sum of its distances to all units of the layer.

    score_i = sum_j ||W_i - W_j||_2

    The smallest sum marks the filter nearest to the geometric median of all. Units that are gone count like any other
    filter, at zero: pass the rows of those that remain.

    Args:
        weight: current values, shape [units, in, ...].

    Returns:
        Scores, shape [units], float32, never negative; larger means keep.

    Raises:
        ValueError: the weight has fewer than two dimensions.

    Cost: O(units^2 * fan-in) time, O(units^2 + weight) memory.

    Example:
        >>> geometric_median(torch.tensor([[0.0], [1.0], [5.0]]))
        tensor([6., 5., 9.])

    Source:
        He, Liu, Wang, Hu, Yang. Filter Pruning via Geometric Median for Deep Convolutional Neural Networks
        Acceleration. CVPR 2019, arXiv:1811.00250.
    """
    rows = filters(weight)
    # Distances by matrix products are faster, but lose equal and nearly equal filters in rounding.
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").sum(1).float()
