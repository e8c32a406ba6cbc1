"""Scale of the batch normalisation: what is multiplied by little says little."""

from torch import Tensor

from gossamer.criteria.inputs import check_one_a_unit


def batch_norm_scale(scale: Tensor) -> Tensor:
    """Score each unit by the factor that the batch normalisation behind it gives it.

    score = |gamma|

    Args:
        scale: the factors, shape [units].

    Returns:
        Scores, shape [units], float32, never negative; larger means keep.

    Raises:
        ValueError: more or less than one dimension.

    Example:
        >>> import torch
        >>> batch_norm_scale(torch.tensor([-2.0, 0.5]))
        tensor([2.0000, 0.5000])

    Source:
        Liu, Li, Shen, Huang, Yan, Zhang. Learning Efficient Convolutional Networks through Network Slimming.
        ICCV 2017, arXiv:1708.06519.
    """
    check_one_a_unit(scale, name="scale")
    return scale.detach().abs().float()
