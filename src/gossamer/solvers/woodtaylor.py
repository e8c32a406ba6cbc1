"""WoodTaylor: the score of optimal brain surgeon where the loss still has a slope."""

import torch
from torch import Tensor

from gossamer.solvers.checks import as_float64
from gossamer.solvers.fisher import blocks, inverses
from gossamer.solvers.linear_algebra import batches


def woodtaylor_scores(
    weight: Tensor, grad: Tensor, sample_grads: Tensor, *, block_size: int, dampening: float
) -> Tensor:
    """Score each weight by what the loss gains when it goes, against the best move that keeps it.

    score_i = (w_i - [F^-1 g]_i)^2 / (2 [F^-1]_ii), F the empirical Fisher matrix of the block

    Args:
        weight: current values, any shape [*].
        grad: g, gradient of the mean loss, shape [*].
        sample_grads: gradient of each sample's loss, shape [samples, *].
        block_size: consecutive weights of the flattened tensor that share a block, >= 1.
        dampening: added to the diagonal, > 0.

    Returns:
        Scores, shape [*], float32, never negative; larger means keep.

    Raises:
        ValueError: shapes or settings out of range, or NaN.

    Example:
        >>> import torch
        >>> grads = torch.tensor([[1.0, 0.0]])
        >>> woodtaylor_scores(torch.tensor([1.0, 1.0]), grads[0], grads, block_size=2, dampening=1.0)
        tensor([0.2500, 0.5000])

    Source:
        Singh, Alistarh. WoodFisher: efficient second-order approximation for neural network compression.
        NeurIPS 2020, arXiv:2004.14340.
        Differs: without the part that is the same for all weights, -g^T F^-1 g / 2, so that no score is negative.

    Cost: O(samples n block_size) time in bounded memory.
    """
    if grad.shape != weight.shape:
        raise ValueError(f"weight has shape {tuple(weight.shape)}, grad {tuple(grad.shape)}; they must agree")
    values, grads = blocks(weight, sample_grads, block_size=block_size, dampening=dampening)
    slopes = torch.zeros_like(values)
    slopes.view(-1)[: weight.numel()] = as_float64(grad, name="grad").flatten()
    scores = torch.empty_like(values)
    for part in batches(len(values), block_size**2):
        inv = inverses(grads[part], dampening)
        move = (inv @ slopes[part][:, :, None])[:, :, 0]
        scores[part] = (values[part] - move).square() / (2 * inv.diagonal(dim1=1, dim2=2))
    return scores.flatten()[: weight.numel()].float().view(weight.shape)
