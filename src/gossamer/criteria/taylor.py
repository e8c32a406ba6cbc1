"""Taylor expansions of the loss to first order: of a weight, of a filter, of a unit's activations."""

from torch import Tensor

from gossamer.criteria.inputs import check_same_shape, check_samples, filters, wide
from gossamer.elementwise import elementwise


@elementwise
def taylor(weight: Tensor, grad: Tensor) -> Tensor:
    """Score each weight by the squared change of the loss that its removal would bring, to first order.

    score = (w * dL/dw)^2

    Args:
        weight: current values, any shape [*].
        grad: gradient of the loss at `weight`, shape [*].

    Returns:
        Scores, shape [*], float32, never negative; larger means keep.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> import torch
        >>> taylor(torch.tensor([2.0, -1.0]), torch.tensor([0.5, 3.0]))
        tensor([1., 9.])

    Source:
        Molchanov, Mallya, Tyree, Frosio, Kautz. Importance Estimation for Neural Network Pruning. CVPR 2019,
        arXiv:1906.10771.
    """
    check_same_shape(weight, grad, name="grad")
    return (wide(weight) * wide(grad)).square().float()


def taylor_filter(weight: Tensor, grad: Tensor) -> Tensor:
    """Score each unit by the squared change of the loss that removing all its weights would bring, to first order.

    score = (sum over the filter of w * dL/dw)^2

    Args:
        weight: current values, shape [units, in, ...].
        grad: gradient of the loss at `weight`, shape [units, in, ...].

    Returns:
        Scores, shape [units], float32, never negative; larger means keep.

    Raises:
        ValueError: the shapes differ, or the weight has fewer than two dimensions.

    Example:
        >>> import torch
        >>> taylor_filter(torch.tensor([[2.0, -1.0], [1.0, 1.0]]), torch.tensor([[0.5, 3.0], [2.0, 1.0]]))
        tensor([4., 9.])

    Source:
        Molchanov, Mallya, Tyree, Frosio, Kautz. Importance Estimation for Neural Network Pruning. CVPR 2019,
        arXiv:1906.10771.
        Differs: the gradient of the mean loss, squared once; the paper averages the squares of minibatches.
    """
    check_same_shape(weight, grad, name="grad")
    return (filters(weight) * filters(grad)).sum(1).square().float()


def taylor_activation(activation_products: Tensor) -> Tensor:
    """Score each unit by the change of the loss that silencing it would bring, to first order.

    score = E |a * dL/da| / sqrt(sum over the units of its square)

    Args:
        activation_products: a * dL/da of each sample, mean over positions, shape [samples, units].

    Returns:
        Scores, shape [units], float32, in [0, 1]; larger means keep. All 0 where every product is.

    Raises:
        ValueError: not two dimensions, or no sample.

    Example:
        >>> import torch
        >>> taylor_activation(torch.tensor([[3.0, -8.0], [-3.0, 0.0]]))
        tensor([0.6000, 0.8000])

    Source:
        Molchanov, Tyree, Karras, Aila, Kautz. Pruning Convolutional Neural Networks for Resource Efficient Inference.
        ICLR 2017, arXiv:1611.06440.
    """
    check_samples(activation_products, name="activation_products")
    changes = activation_products.detach().double().contiguous().abs().mean(0)
    norm = changes.square().sum().sqrt()
    return (changes / (norm + (norm == 0.0))).float()
