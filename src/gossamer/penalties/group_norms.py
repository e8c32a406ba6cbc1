"""L2 norms of the groups of a weight, with a gradient everywhere."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gossamer.penalties.precision import widened


class GroupNorms(NamedTuple):
    """The groups of a weight; a number that no entry has makes a group of size and norm 0.

    Attributes:
        norms: L2 norm of each group, shape [groups], float32, or float64 for a weight of that type.
        sizes: number of entries of each group, shape [groups], int64.
        places: which of these groups each entry belongs to, shape [*], int64.
    """

    norms: Tensor
    sizes: Tensor
    places: Tensor


def group_norms(weight: Tensor, groups: Tensor) -> GroupNorms:
    """Return the L2 norm of each group of entries; its gradient at a group of zeros is 0.

    Args:
        weight: current values, any shape [*].
        groups: number of the group of each entry, any integers, shape [*], int64.

    Raises:
        TypeError: groups is not int64.
        ValueError: the shapes differ.

    Cost: O(n) where all numbers lie in [0, n), as those of rows and columns do, else a sort.
    """
    if groups.dtype != torch.int64:
        raise TypeError(f"groups has type {groups.dtype}; number the group of each entry in torch.int64")
    if groups.shape != weight.shape:
        raise ValueError(f"weight has shape {tuple(weight.shape)}, groups {tuple(groups.shape)}; they must agree")
    places, number = _places(groups.flatten())
    values = widened(weight).flatten()
    # Squares of values near 1 neither overflow nor vanish; as a factor, the largest value needs no gradient.
    largest = values.new_zeros(number).scatter_reduce(0, places, values.detach().abs(), "amax")
    largest = torch.where((largest > 0) & (largest < math.inf), largest, 1.0)
    squares = values.new_zeros(number).index_add(0, places, (values / largest[places]).square())
    # The root has no slope at 0, and a NaN must stay one.
    zero = squares == 0
    norms = torch.where(zero, 0.0, largest * torch.where(zero, 1.0, squares).sqrt())
    return GroupNorms(norms, torch.bincount(places, minlength=number), places.view(groups.shape))


def _places(flat: Tensor) -> tuple[Tensor, int]:
    """Return numbers from 0 without large gaps, and how many."""
    if not flat.numel():
        return flat, 0
    low, high = flat.aminmax()
    if int(low) >= 0 and int(high) < flat.numel():
        return flat, int(high) + 1
    numbers, places = flat.unique(return_inverse=True)
    return places, numbers.numel()
