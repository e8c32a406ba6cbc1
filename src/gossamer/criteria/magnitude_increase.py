"""Magnitude increase: what training made larger matters."""

from torch import Tensor

from gossamer.criteria.inputs import check_same_shape, wide
from gossamer.elementwise import elementwise


@elementwise
def magnitude_increase(weight: Tensor, first_weight: Tensor) -> Tensor:
    """Score each weight by how much its absolute value has grown since an earlier step.

    score = |w_t| - |w_0|

    Args:
        weight: current values, any shape [*].
        first_weight: values at the earlier step, as a rule the first, shape [*].

    Returns:
        Scores, shape [*], float32, negative for weights that have shrunk; larger means keep.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> import torch
        >>> magnitude_increase(torch.tensor([-2.0, 0.5]), torch.tensor([0.5, 1.0]))
        tensor([ 1.5000, -0.5000])

    Source:
        Zhou, Lan, Liu, Yosinski. Deconstructing Lottery Tickets. NeurIPS 2019, arXiv:1905.01067.
    """
    check_same_shape(weight, first_weight, name="first_weight")
    return (wide(weight).abs() - wide(first_weight).abs()).float()
