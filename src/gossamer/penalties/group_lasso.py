"""Group lasso: the norms of groups of weights, which pulls whole groups to zero."""

from torch import Tensor

from gossamer.penalties.group_norms import group_norms


def group_lasso(weight: Tensor, groups: Tensor) -> Tensor:
    """Sum the L2 norms of groups, each times the square root of its size.

    penalty = sum_g sqrt(n_g) ||w_g||

    Args:
        weight: current values, any shape [*].
        groups: number of the group of each entry, any integers, shape [*], int64; for output rows it is
            `torch.arange(rows)[:, None].expand_as(weight)`.

    Returns:
        Scalar, float32, or float64 for a weight of that type; 0 for an empty tensor. Its gradient at a group of
        zeros is 0.

    Raises:
        TypeError: groups is not int64.
        ValueError: the shapes differ.

    Example:
        >>> import torch
        >>> group_lasso(torch.tensor([3.0, 0.0, 5.0, 0.0, 0.0, 4.0]), torch.tensor([7, 7, 2, 2, 7, 7]))
        tensor(17.0711)

    Source:
        Yuan, Lin. Model selection and estimation in regression with grouped variables. Journal of the Royal
        Statistical Society B 68, 2006. For networks: Wen, Wu, Wang, Chen, Li. Learning Structured Sparsity in Deep
        Neural Networks. NeurIPS 2016, arXiv:1608.03665.
        Differs: Wen et al. leave out the square root of the size.
    """
    found = group_norms(weight, groups)
    return (found.norms * found.sizes.to(found.norms.dtype).sqrt()).sum()
