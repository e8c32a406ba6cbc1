"""Units that are alike become one: the next layer reads the one that stays for both."""

from typing import NamedTuple

import torch
from torch import Tensor

from gossamer.solvers.checks import as_float64, check_count, square
from gossamer.solvers.fold import outgoing_matrix, vector

# Below this share of the largest variance a unit counts as constant.
_CONSTANT = 1e-12


class Merged(NamedTuple):
    """What reads the units after some have been merged into others.

    Attributes:
        mask: which units stay, bool, shape [units].
        outgoing: weight of the next layer, shape [out2, units, ...], exactly zero for units that went.
    """

    mask: Tensor
    outgoing: Tensor


class MergedWithBias(NamedTuple):
    """What reads the units after some have been merged into others and into the bias.

    Attributes:
        mask: which units stay, bool, shape [units].
        outgoing: weight of the next layer, shape [out2, units, ...], exactly zero for units that went.
        outgoing_bias: bias of the next layer, shape [out2].
    """

    mask: Tensor
    outgoing: Tensor
    outgoing_bias: Tensor


def merge_correlated(
    outgoing: Tensor,
    outgoing_bias: Tensor,
    activation_mean: Tensor,
    activation_covariance: Tensor,
    *,
    num_units: int,
) -> MergedWithBias:
    """Merge the most correlated pair of units, again and again: one goes, the other speaks for both.

    a_j ~ b a_i + c with b = Cov_ij / Var_i, c = E a_j - b E a_i;  W_i <- W_i + b W_j, bias <- bias + c W_j

    Args:
        outgoing: weight of the next layer, shape [out2, units, ...]; a kernel counts with its sum in the bias.
        outgoing_bias: its bias, shape [out2].
        activation_mean: E a, shape [units].
        activation_covariance: Cov(a_i, a_j), shape [units, units].
        num_units: how many units stay, in [0, units].

    Returns:
        The merged layer, dtypes as given. Constant units go first, into the bias alone. Of a pair that one goes
        whose outgoing weights lose less variance; of equal ones the later.

    Raises:
        ValueError: a count or shapes that do not fit, or NaN.

    Example:
        >>> import torch
        >>> covariance = torch.tensor([[1.0, 2.0], [2.0, 4.0]])
        >>> outgoing, bias, mean = torch.tensor([[3.0, 1.0]]), torch.tensor([0.0]), torch.tensor([1.0, 5.0])
        >>> merge_correlated(outgoing, bias, mean, covariance, num_units=1)
        MergedWithBias(mask=tensor([ True, False]), outgoing=tensor([[5., 0.]]), outgoing_bias=tensor([3.]))

    Source:
        Sietsma, Dow. Creating artificial neural networks that generalize. Neural Networks 4, 1991.
        Differs: which unit of a pair goes is ours, and so is the number of units in place of a threshold.

    Cost: O(units^3) time for all merges together.
    """
    weights = outgoing_matrix(outgoing)
    units = weights.shape[1]
    bias = vector(outgoing_bias, len(weights), name="outgoing_bias").clone()
    mean = vector(activation_mean, units, name="activation_mean")
    covariance = square(activation_covariance, units, name="activation_covariance")
    kept = torch.ones(units, dtype=torch.bool, device=weights.device)
    for _ in range(units - check_count(num_units, units, name="num_units")):
        goes, stays = _most_correlated(covariance, weights, kept)
        bias += mean[goes] * weights[:, goes].sum(1)
        if stays is not None:
            slope = covariance[goes, stays] / covariance[stays, stays]
            bias -= slope * mean[stays] * weights[:, goes].sum(1)
            weights[:, stays] += slope * weights[:, goes]
        weights[:, goes] = 0.0
        kept[goes] = False
    return MergedWithBias(kept, weights.to(outgoing.dtype).view(outgoing.shape), bias.to(outgoing_bias.dtype))


def merge_similar(weight: Tensor, outgoing: Tensor, *, num_units: int) -> Merged:
    """Merge the most similar pair of units, again and again: one goes, the other takes its outgoing weights.

    cost_ij = mean over outputs of a_j^2 * |W_i - W_j|^2, a the outgoing weights;  a_i <- a_i + a_j

    Args:
        weight: incoming weights, shape [units, in, ...]; with the bias, if any, as one more column.
        outgoing: weight of the next layer, shape [out2, units, ...].
        num_units: how many units stay, in [0, units].

    Returns:
        The merged layer, dtype as given; of equal pairs the one that goes last is taken.

    Raises:
        ValueError: a count or shapes that do not fit, or NaN.

    Example:
        >>> import torch
        >>> weight, outgoing = torch.tensor([[1.0], [4.0], [1.0]]), torch.tensor([[2.0, 1.0, 5.0]])
        >>> merge_similar(weight, outgoing, num_units=2)
        Merged(mask=tensor([ True,  True, False]), outgoing=tensor([[7., 1., 0.]]))

    Source:
        Srinivas, Babu. Data-free parameter pruning for deep neural networks. BMVC 2015, arXiv:1507.06149.

    Cost: O(units^2 in + units^3) time.
    """
    weights = outgoing_matrix(outgoing)
    units = weights.shape[1]
    if weight.dim() < 2 or len(weight) != units:
        raise ValueError(f"weight must have shape [{units}, in, ...] to fit outgoing, got {tuple(weight.shape)}")
    incoming = as_float64(weight, name="weight").flatten(1)
    distances = torch.stack([(incoming - row).square().sum(1) for row in incoming]) if units else incoming
    kept = torch.ones(units, dtype=torch.bool, device=weights.device)
    for _ in range(units - check_count(num_units, units, name="num_units")):
        costs = distances * weights.square().mean((0, 2))
        goes, stays = _last_cheapest(costs.t(), kept)
        if stays is not None:
            weights[:, stays] += weights[:, goes]
        weights[:, goes] = 0.0
        kept[goes] = False
    return Merged(kept, weights.to(outgoing.dtype).view(outgoing.shape))


def _most_correlated(covariance: Tensor, weights: Tensor, kept: Tensor) -> tuple[int, int | None]:
    """Return which unit goes and into which; None where into the bias alone."""
    variance = covariance.diagonal()
    if bool((constant := kept & (variance <= _CONSTANT * variance.max())).any()):
        return int(constant.nonzero()[-1]), None
    deviation = torch.where(variance > 0, variance, 1.0).sqrt()
    goes, stays = _last_cheapest(-(covariance / torch.outer(deviation, deviation)).abs(), kept)
    if stays is None:
        return goes, None
    lost = variance * weights.square().sum((0, 2))
    dear = bool(lost[goes] > lost[stays])
    return (stays, goes) if dear else (goes, stays)


def _last_cheapest(costs: Tensor, kept: Tensor) -> tuple[int, int | None]:
    """Return row and column of the smallest entry off the diagonal among kept units, the last of equal ones."""
    if int(kept.sum()) == 1:
        return int(kept.nonzero()[0]), None
    allowed = kept[:, None] & kept & ~torch.eye(len(kept), dtype=torch.bool, device=kept.device)
    costs = costs.masked_fill(~allowed, torch.inf)
    row, column = (costs == costs.min()).nonzero()[-1].tolist()
    return row, column
