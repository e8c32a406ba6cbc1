"""Least squares: what the active weights of a layer should be, given its mask."""

import torch
from torch import Tensor

from gossamer.solvers import solution
from gossamer.solvers.checks import flat_mask, rows_and_gram
from gossamer.solvers.linear_algebra import dampened, layer_error, least_squares, row_errors
from gossamer.solvers.solution import Solution


def reconstruct(weight: Tensor, input_gram: Tensor, mask: Tensor, *, dampening: float = 0.0) -> Solution:
    """Move the active weights so that the layer's outputs come as near to those before as they can.

    w_K <- w_K + G_KK^-1 G_KQ w_Q for each output, K its active and Q its absent inputs

    Args:
        weight: dense values, shape [out, in, ...]; the axes behind the first are flattened.
        input_gram: E x x^T, shape [in, in].
        mask: bool, shape of the weight.
        dampening: holds the weights where they are: added to the diagonal, as a share of its mean, >= 0.

    Returns:
        The solution; `loss_increase` is E |W' x - W x|^2, never above what the mask alone costs. Directions that
        change no output stay as they are, so that few samples and dead inputs do no harm.

    Raises:
        ValueError: shapes that do not fit, NaN, or a negative dampening.

    Example:
        >>> import torch
        >>> gram = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
        >>> reconstruct(torch.tensor([[1.0, 2.0]]), gram, torch.tensor([[True, False]])).weight
        tensor([[2., 0.]])

    Source:
        He, Zhang, Sun. Channel pruning for accelerating very deep neural networks. ICCV 2017, arXiv:1707.06168.
        Differs: any mask, not whole channels.

    Cost: O(out in^3) time in bounded memory.
    """
    rows, gram = rows_and_gram(weight, input_gram)
    keep = flat_mask(mask, weight.shape)
    solved = least_squares(rows, dampened(gram, dampening)[None], keep).to(weight.dtype).double()
    masked = rows * keep
    # Rounding to the weight's dtype may cost more than a tiny gain brings.
    worse = row_errors(solved - rows, gram) > row_errors(masked - rows, gram)
    solved = torch.where(worse[:, None], masked, solved)
    return solution.make(weight, solved, keep, layer_error(solved - rows, gram))
