"""WoodFisher: optimal brain surgeon on blocks of the empirical Fisher matrix."""

import torch
from torch import Tensor

from gossamer.masks import keep_largest
from gossamer.solvers import solution
from gossamer.solvers.checks import check_count
from gossamer.solvers.fisher import blocks, inverses
from gossamer.solvers.linear_algebra import batches, least_squares
from gossamer.solvers.solution import Solution


def woodfisher_scores(weight: Tensor, sample_grads: Tensor, *, block_size: int, dampening: float) -> Tensor:
    """Score each weight by what the loss gains when it goes and the others of its block make up for it.

    score_i = w_i^2 / (2 [F^-1]_ii), F the empirical Fisher matrix of the block

    Args:
        weight: current values, any shape [*].
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
        >>> woodfisher_scores(torch.tensor([1.0, 1.0]), grads, block_size=2, dampening=1.0)
        tensor([1.0000, 0.5000])

    Source:
        Singh, Alistarh. WoodFisher: efficient second-order approximation for neural network compression.
        NeurIPS 2020, arXiv:2004.14340.

    Cost: O(samples n block_size) time in bounded memory.
    """
    values, grads = blocks(weight, sample_grads, block_size=block_size, dampening=dampening)
    return _scores(values, grads, dampening).flatten()[: weight.numel()].float().view(weight.shape)


def woodfisher(weight: Tensor, sample_grads: Tensor, *, num_active: int, block_size: int, dampening: float) -> Solution:
    """Remove the weights of least score at once and move what stays of each block by the exact minimiser.

    score_i = w_i^2 / (2 [F^-1]_ii);  dw = -F^-1_:Q ([F^-1]_QQ)^-1 w_Q for the removed Q of a block

    Args:
        weight: current values, any shape [*], n in all.
        sample_grads: gradient of each sample's loss, shape [samples, *].
        num_active: how many weights stay, in [0, n].
        block_size: consecutive weights of the flattened tensor that share a block, >= 1.
        dampening: added to the diagonal, > 0.

    Returns:
        The solution; `loss_increase` is dw^T F dw / 2 with F the dampened blocks.

    Raises:
        ValueError: shapes, a count or settings out of range, or NaN.

    Example:
        >>> import torch
        >>> grads = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
        >>> woodfisher(torch.tensor([3.0, 1.0]), grads, num_active=1, block_size=2, dampening=1e-3).weight
        tensor([3., 0.])

    Source:
        Singh, Alistarh. WoodFisher: efficient second-order approximation for neural network compression.
        NeurIPS 2020, arXiv:2004.14340.
        Differs: the removed weights of a block act together; the paper adds up what each would do alone. The
        move is computed as F_KK^-1 F_KQ w_Q, which is the same and needs no second inverse.

    Cost: O(samples n block_size + n block_size^2) time in bounded memory.
    """
    check_count(num_active, weight.numel())
    values, grads = blocks(weight, sample_grads, block_size=block_size, dampening=dampening)
    scores = _scores(values, grads, dampening).flatten()[: weight.numel()]
    mask = torch.zeros_like(values, dtype=torch.bool)
    mask.view(-1)[: weight.numel()] = keep_largest(scores, num_active)
    solved, loss = torch.empty_like(values), 0.0
    for part in batches(len(values), block_size * (block_size + grads.shape[1])):
        fisher = grads[part].mT @ grads[part] / grads.shape[1] + dampening * torch.eye(block_size).to(values)
        solved[part] = least_squares(values[part], fisher, mask[part])
        change = (solved[part] - values[part])[:, :, None]
        loss += 0.5 * float((change * (fisher @ change)).sum())
    return solution.make(
        weight, solved.flatten()[: weight.numel()], mask.flatten()[: weight.numel()], loss_increase=loss
    )


def _scores(values: Tensor, grads: Tensor, dampening: float) -> Tensor:
    scores = torch.empty_like(values)
    for part in batches(len(values), values.shape[1] ** 2):
        diagonals = inverses(grads[part], dampening).diagonal(dim1=1, dim2=2)
        scores[part] = values[part].square() / (2 * diagonals)
    return scores
