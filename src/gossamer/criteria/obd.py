"""Optimal Brain Damage and Fisher pruning: the second-order change of the loss from a diagonal of curvatures."""

from torch import Tensor

from gossamer.criteria.inputs import check_same_shape, wide
from gossamer.elementwise import elementwise


@elementwise
def obd(weight: Tensor, hessian_diagonal: Tensor) -> Tensor:
    """Score each weight by how much the loss would rise without it, to second order at a minimum.

    score = H_ii w_i^2 / 2

    Exact for a quadratic loss at its minimum when one weight goes alone.

    Args:
        weight: current values, any shape [*].
        hessian_diagonal: diagonal of the Hessian of the loss at `weight`, shape [*].

    Returns:
        Scores, shape [*], float32, negative where the curvature is; larger means keep.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> import torch
        >>> obd(torch.tensor([2.0, -1.0]), torch.tensor([0.5, 6.0]))
        tensor([1., 3.])

    Source:
        LeCun, Denker, Solla. Optimal Brain Damage. NIPS 1989.
    """
    check_same_shape(weight, hessian_diagonal, name="hessian_diagonal")
    return _half_square(wide(weight), wide(hessian_diagonal)).float()


@elementwise
def fisher(weight: Tensor, squared_grad: Tensor) -> Tensor:
    """Score each weight by how much the loss would rise without it, the empirical Fisher matrix for the Hessian.

    score = w^2 * E (dL_n/dw)^2 / 2

    Args:
        weight: current values, any shape [*].
        squared_grad: mean over samples of the squared gradient of one sample's loss, shape [*].

    Returns:
        Scores, shape [*], float32, never negative; larger means keep.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> import torch
        >>> fisher(torch.tensor([2.0, -1.0]), torch.tensor([0.5, 6.0]))
        tensor([1., 3.])

    Source:
        Theis, Korshunova, Tejani, Huszar. Faster gaze prediction with dense networks and Fisher pruning. 2018,
        arXiv:1801.05787.
        Differs: the paper weighs it against the computation saved; here that is left to the budget.
    """
    check_same_shape(weight, squared_grad, name="squared_grad")
    return _half_square(wide(weight), wide(squared_grad)).float()


def _half_square(weight: Tensor, curvature: Tensor) -> Tensor:
    """w^2 h / 2 with h between the factors: the square alone can leave the range where the result does not."""
    return 0.5 * (weight * curvature) * weight
