"""GraSP: weights whose removal would slow down learning."""

from torch import Tensor

from gossamer.criteria.inputs import check_same_shape, wide
from gossamer.elementwise import elementwise


@elementwise
def grasp(weight: Tensor, hessian_grad: Tensor) -> Tensor:
    """Score each weight by how much its removal would lower the squared norm of the gradient, to first order.

    score = w * (H g)

    A step of gradient descent lowers the loss by a multiple of g^T g, whose gradient is 2 H g. Removing a weight moves
    it by -w, which changes g^T g by -2 w (H g): what has a large positive score carries the gradient and stays. The
    paper calls -w (H g) the score and removes the largest; code that keeps the largest -w (H g) has the sign wrong.

    Args:
        weight: current values, any shape [*].
        hessian_grad: Hessian of the loss times its gradient at `weight`, shape [*].

    Returns:
        Scores, shape [*], float32, of both signs; larger means keep.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> import torch
        >>> grasp(torch.tensor([2.0, -1.0]), torch.tensor([0.5, 3.0]))
        tensor([ 1., -3.])

    Source:
        Wang, Zhang, Grosse. Picking Winning Tickets Before Training by Preserving Gradient Flow. ICLR 2020,
        arXiv:2002.07376.
        Differs: the sign, so that larger means keep. The temperature of 200 by which the authors' code divides
        the outputs belongs to the loss, which is the caller's.
    """
    check_same_shape(weight, hessian_grad, name="hessian_grad")
    return (wide(weight) * wide(hessian_grad)).float()
