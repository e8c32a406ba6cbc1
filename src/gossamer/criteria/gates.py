"""Gates: a factor on each unit or attention head whose derivative says what turning it down would do to the loss."""

from torch import Tensor

from gossamer.criteria.inputs import check_one_a_unit, check_samples


def skeletonization(gate_grad: Tensor) -> Tensor:
    """Score each unit by how much the loss would rise if it were turned off, to first order.

    score = -dL/d alpha at alpha = 1 ~ L(alpha = 0) - L(alpha = 1)

    Args:
        gate_grad: derivative of the loss by a factor alpha on each unit, at alpha = 1, shape [units].

    Returns:
        Scores, shape [units], float32, negative where the unit does harm; larger means keep.

    Raises:
        ValueError: more or less than one dimension.

    Example:
        >>> import torch
        >>> skeletonization(torch.tensor([-2.0, 0.5]))
        tensor([ 2.0000, -0.5000])

    Source:
        Mozer, Smolensky. Skeletonization: A Technique for Trimming the Fat from a Network via Relevance Assessment.
        NIPS 1988.
        Differs: the derivative of the loss that is given; the paper takes the absolute error, not the squared one, and
        a running mean over steps.
    """
    check_one_a_unit(gate_grad, name="gate_grad")
    return -gate_grad.detach().float()


def head_gates(gate_grads: Tensor) -> Tensor:
    """Score each attention head by how much the loss of a sample reacts to turning it down.

    score = E |dL/d xi| at xi = 1

    Args:
        gate_grads: derivative of each sample's loss by a factor xi on each head, at xi = 1, shape [samples, heads].

    Returns:
        Scores, shape [heads], float32, never negative; larger means keep.

    Raises:
        ValueError: not two dimensions, or no sample.

    Example:
        >>> import torch
        >>> head_gates(torch.tensor([[3.0, -1.0], [-3.0, 0.0]]))
        tensor([3.0000, 0.5000])

    Source:
        Michel, Levy, Neubig. Are Sixteen Heads Really Better than One? NeurIPS 2019, arXiv:1905.10650.
        Differs: not divided by the norm over the heads of the layer, which changes no order within a layer.
    """
    check_samples(gate_grads, name="gate_grads")
    return gate_grads.detach().double().contiguous().abs().mean(0).float()
