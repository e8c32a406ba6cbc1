"""Movement: weights that training pushes towards zero."""

from torch import Tensor

from gossamer.criteria.inputs import check_same_shape, wide
from gossamer.elementwise import elementwise


@elementwise
def movement(weight: Tensor, grad: Tensor) -> Tensor:
    """Score each weight by how fast gradient descent moves it away from zero: one step's part of the movement score.

    score = -w * dL/dw

    Args:
        weight: current values, any shape [*].
        grad: gradient of the loss with regard to the weight that took part in the product, masked or not, shape [*].

    Returns:
        Scores, shape [*], float32, negative for weights on their way to zero; larger means keep.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> import torch
        >>> movement(torch.tensor([2.0, -1.0]), torch.tensor([0.5, 3.0]))
        tensor([-1.,  3.])

    Source:
        Sanh, Wolf, Rush. Movement Pruning: Adaptive Sparsity by Fine-Tuning. NeurIPS 2020, arXiv:2005.07683.
        Differs: the paper's score is the sum of this over the steps of fine-tuning, times the learning rate of the
        scores; the caller adds up.
    """
    check_same_shape(weight, grad, name="grad")
    return -(wide(weight) * wide(grad)).float()
