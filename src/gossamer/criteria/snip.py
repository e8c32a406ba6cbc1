"""SNIP: what the loss would feel first."""

from torch import Tensor

from gossamer.criteria.inputs import check_same_shape, wide
from gossamer.elementwise import elementwise


@elementwise
def snip(weight: Tensor, grad: Tensor) -> Tensor:
    """Score each weight by how much scaling it away would move the loss, to first order.

    score = |w * dL/dw|

    This is |dL/dc| at c = 1 for a factor c on the weight.

    Args:
        weight: current values, any shape [*].
        grad: gradient of the loss at `weight`, shape [*].

    Returns:
        Scores, shape [*], float32, never negative; larger means keep.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> import torch
        >>> snip(torch.tensor([2.0, -1.0]), torch.tensor([0.5, 3.0]))
        tensor([1., 3.])

    Source:
        Lee, Ajanthan, Torr. SNIP: Single-shot Network Pruning based on Connection Sensitivity. ICLR 2019,
        arXiv:1810.02340.
        Differs: not divided by its sum, which cannot change the order.
    """
    check_same_shape(weight, grad, name="grad")
    return (wide(weight) * wide(grad)).abs().float()
