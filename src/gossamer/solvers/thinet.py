"""ThiNet: input channels chosen greedily by what the layer's outputs lose without them."""

import torch
from torch import Tensor

from gossamer.solvers.channels import contributions, without_channels
from gossamer.solvers.checks import check_count, rows_and_gram
from gossamer.solvers.solution import Solution


def thinet(weight: Tensor, input_gram: Tensor, *, num_channels: int, channel_size: int = 1) -> Solution:
    """Remove input channels one by one, each the one that adds least to the output error, then fit what stays.

    minimise E |sum over removed c of W_c x_c|^2, greedily;  then least squares on the kept channels

    Args:
        weight: current values, shape [out, in, ...]; the axes behind the first are flattened.
        input_gram: E x x^T, shape [in, in].
        num_channels: how many channels stay, in [0, number of channels].
        channel_size: consecutive columns of a channel, such as the entries of a kernel, >= 1.

    Returns:
        The solution; `loss_increase` is E |W' x - W x|^2 after the fit. Of equal channels the later go first.

    Raises:
        ValueError: a count or shapes that do not fit, or NaN.

    Example:
        >>> import torch
        >>> thinet(torch.tensor([[1.0, 3.0, 2.0]]), torch.eye(3), num_channels=2).mask
        tensor([[False,  True,  True]])

    Source:
        Luo, Wu, Lin. ThiNet: a filter level pruning method for deep neural network compression. ICCV 2017,
        arXiv:1707.06342.
        Differs: all weights of the kept channels are fitted, the paper fits one factor a channel; the expectation
        is over all that the Gram matrix was made from, not over sampled positions.

    Cost: O(out in^2 + in^3) time, O(in^2) memory.
    """
    rows, gram = rows_and_gram(weight, input_gram)
    products = contributions(rows, gram, channel_size)
    kept = torch.ones(len(products), dtype=torch.bool, device=rows.device)
    added = products.diagonal().clone()
    for _ in range(len(kept) - check_count(num_channels, len(kept), name="num_channels")):
        costs = added.masked_fill(~kept, torch.inf)
        channel = int((costs == costs.min()).nonzero()[-1])
        kept[channel] = False
        added += 2 * products[channel]
    return without_channels(weight, rows, gram, kept)
