"""Wanda: a weight counts as much as the input that it multiplies."""

from torch import Tensor

from gossamer.criteria.inputs import wide


def wanda(weight: Tensor, input_norm: Tensor) -> Tensor:
    """Score each weight by its absolute value times the norm of its input.

    score_ij = |w_ij| ||x_j||_2

    The square is the squared change of output i over all samples when this weight alone goes. The paper compares the
    scores within each output row.

    Args:
        weight: current values, shape [out, in, ...].
        input_norm: L2 norm of each input over all samples and positions, shape [in * kernel], in the order of
            weight.flatten(1).

    Returns:
        Scores, shape of the weight, float32, never negative; larger means keep.

    Raises:
        ValueError: `input_norm` is not a vector of one number for each column of weight.flatten(1).

    Example:
        >>> import torch
        >>> wanda(torch.tensor([[-2.0, 0.5]]), torch.tensor([1.0, 8.0]))
        tensor([[2., 4.]])

    Source:
        Sun, Liu, Bair, Kolter. A Simple and Effective Pruning Approach for Large Language Models. ICLR 2024,
        arXiv:2306.11695.
    """
    if weight.dim() < 2 or input_norm.shape != (weight.shape[1:].numel(),):
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}, input_norm {tuple(input_norm.shape)}; allowed are [out, in, ...] "
            "and [in * kernel], so pass one norm for each column of weight.flatten(1)"
        )
    return (wide(weight).abs() * wide(input_norm).reshape(weight.shape[1:])).float()
