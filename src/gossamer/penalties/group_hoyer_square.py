"""Group Hoyer-square: Hoyer-square of the norms of groups, which leaves few groups."""

from torch import Tensor

from gossamer.penalties.group_norms import group_norms
from gossamer.penalties.hoyer_square import hoyer_square


def group_hoyer_square(weight: Tensor, groups: Tensor) -> Tensor:
    """Divide the square of the sum of the groups' L2 norms by the sum of all squares.

    penalty = (sum_g ||w_g||)^2 / sum w^2

    It lies between 1, where one group is left, and the number of groups, and does not change with the scale.

    Args:
        weight: current values, any shape [*].
        groups: number of the group of each entry, any integers, shape [*], int64.

    Returns:
        Scalar, float32, or float64 for a weight of that type; 0 where all weights are zero or there are none. Its
        gradient in a group of zeros is 0.

    Raises:
        TypeError: groups is not int64.
        ValueError: the shapes differ.

    Example:
        >>> import torch
        >>> weight = torch.tensor([[3.0, 4.0], [0.0, 5.0], [0.0, 0.0]])
        >>> group_hoyer_square(weight, torch.tensor([[0, 0], [1, 1], [2, 2]]))
        tensor(2.)

    Source:
        Yang, Wen, Li. DeepHoyer: Learning Sparser Neural Network with Differentiable Scale-Invariant Sparsity Measures.
        ICLR 2020, arXiv:1908.09979.
    """
    return hoyer_square(group_norms(weight, groups).norms)
