"""What the choices of whole input channels share: products of their contributions, and least squares for all rows."""

import torch
from torch import Tensor

from gossamer import counts
from gossamer.solvers import solution
from gossamer.solvers.linear_algebra import layer_error, solve_kept
from gossamer.solvers.solution import Solution


def contributions(rows: Tensor, gram: Tensor, channel_size: int) -> Tensor:
    """Return E <W_a x_a, W_b x_b> for all pairs of input channels: what one contributes along another.

    Args:
        rows: weight, shape [out, channels x channel_size], float64.
        gram: E x x^T, float64.
        channel_size: consecutive columns of a channel, >= 1.

    Returns:
        Shape [channels, channels], float64; the sum over a set squared is the output error without the set.

    Raises:
        ValueError: columns that channel_size does not divide.
    """
    if rows.shape[1] % counts.check_positive(channel_size, name="channel_size"):
        raise ValueError(
            f"{rows.shape[1]} inputs do not part into channels of {channel_size}; pass a channel_size that divides them"
        )
    products = rows.t() @ rows * gram
    channels = rows.shape[1] // channel_size
    return products.view(channels, channel_size, channels, channel_size).sum((1, 3))


def without_channels(weight: Tensor, rows: Tensor, gram: Tensor, kept: Tensor) -> Solution:
    """Keep some channels and move their weights so that the outputs come as near to those before as they can.

    Args:
        weight: what the solver was given, shape [out, in, ...].
        rows: the same as a matrix, float64.
        gram: E x x^T, float64.
        kept: channels that stay, bool, shape [channels].

    Returns:
        The solution; all rows have the same mask.
    """
    keep = kept.repeat_interleave(rows.shape[1] // max(1, kept.numel()))
    pull = (gram @ (rows * ~keep).t()) * keep[:, None]
    change = solve_kept(gram[None], keep[None], pull[None])[0].t()
    solved = torch.where(keep, rows + change, 0.0)
    return solution.make(weight, solved, keep.expand_as(rows), layer_error(solved - rows, gram))
