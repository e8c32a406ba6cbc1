"""Channel pruning by the LASSO: input channels whose factor the penalty leaves at zero go."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gossamer import masks
from gossamer.solvers.channels import contributions, without_channels
from gossamer.solvers.checks import check_count, rows_and_gram
from gossamer.solvers.solution import Solution

_MAX_SWEEPS = 1000
_HALVINGS = 40
_TOLERANCE = 1e-7

Array = NDArray[np.float64]


def lasso_channels(weight: Tensor, input_gram: Tensor, *, num_channels: int, channel_size: int = 1) -> Solution:
    """Remove the input channels that a penalised fit of the outputs does without, then fit what stays.

    minimise E |W x - sum_c b_c W_c x_c / |W_c||^2 / 2 + penalty sum_c |b_c|, with the penalty searched so that
    `num_channels` factors b_c are not zero;  then least squares on the kept channels

    Args:
        weight: current values, shape [out, in, ...]; the axes behind the first are flattened.
        input_gram: E x x^T, shape [in, in].
        num_channels: how many channels stay, in [0, number of channels].
        channel_size: consecutive columns of a channel, such as the entries of a kernel, >= 1.

    Returns:
        The solution; `loss_increase` is E |W' x - W x|^2 after the fit.

    Raises:
        ValueError: a count or shapes that do not fit, or NaN.

    Example:
        >>> import torch
        >>> lasso_channels(torch.tensor([[1.0, 3.0, 2.0]]), torch.eye(3), num_channels=2).mask
        tensor([[False,  True,  True]])

    Source:
        He, Zhang, Sun. Channel pruning for accelerating very deep neural networks. ICCV 2017, arXiv:1707.06168.
        Differs: one fit of the factors and one of the weights, which the paper alternates; the penalty is found by
        halving, and where several factors leave at once the largest decide.

    Cost: O(out in^2 + in^3) time and some hundred sweeps of O(channels^2).
    """
    rows, gram = rows_and_gram(weight, input_gram)
    products = contributions(rows, gram, channel_size)
    check_count(num_channels, len(products), name="num_channels")
    norms = rows.square().sum(0).view(len(products), channel_size).sum(1).sqrt()
    scale = torch.where(norms > 0, norms, 1.0)
    quadratic, target = products / torch.outer(scale, scale), products.sum(1) / scale
    factors = _search(quadratic.cpu().numpy(), target.cpu().numpy(), norms.cpu().numpy(), num_channels)
    kept = masks.keep_largest(torch.from_numpy(np.abs(factors)).to(rows.device), num_channels)
    return without_channels(weight, rows, gram, kept)


def _search(quadratic: Array, target: Array, norms: Array, num_channels: int) -> Array:
    """Return the factors at a penalty that leaves `num_channels` of them, or the largest found that leaves more."""
    low, high = 0.0, float(np.abs(target).max(initial=0.0))
    # Without a penalty the outputs themselves are the best fit.
    enough = np.where(quadratic.diagonal() > 0, norms, 0.0)
    if np.count_nonzero(enough) <= num_channels:
        return enough
    for _ in range(_HALVINGS):
        penalty = (low + high) / 2
        factors = descend(quadratic, target, penalty, enough)
        active = np.count_nonzero(factors)
        if active == num_channels:
            return factors
        if active > num_channels:
            low, enough = penalty, factors
        else:
            high = penalty
    return enough


def descend(quadratic: Array, target: Array, penalty: float, start: Array) -> Array:
    """Minimise b^T Q b / 2 - t^T b + penalty sum |b| by cyclic coordinate descent.

    Args:
        quadratic: Q, positive semidefinite, shape [n, n].
        target: t, shape [n].
        penalty: >= 0.
        start: factors to start from, shape [n].

    Returns:
        The factors b, shape [n].
    """
    factors = start.copy()
    residual = target - quadratic @ factors
    diagonal = quadratic.diagonal()
    bound = _TOLERANCE * np.abs(target).max(initial=0.0)
    for _ in range(_MAX_SWEEPS):
        largest = 0.0
        for c in np.flatnonzero(diagonal):
            pull = residual[c] + diagonal[c] * factors[c]
            new = np.sign(pull) * max(0.0, abs(pull) - penalty) / diagonal[c]
            if new != factors[c]:
                largest = max(largest, diagonal[c] * abs(new - factors[c]))
                residual -= quadratic[c] * (new - factors[c])
                factors[c] = new
        if largest <= bound:
            break
    return factors
