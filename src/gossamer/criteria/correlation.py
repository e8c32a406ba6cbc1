"""Correlation: a unit that follows another one says nothing new."""

import torch
from torch import Tensor


def correlation(activation_covariance: Tensor) -> Tensor:
    """Score each unit by how little it is correlated with the units that would remain without it.

    score_j = 1 - max over the remaining i of |cov_ij| / sqrt(cov_ii cov_jj)

    Two equal units must not both score 0, or both would go. So units are merged in thought, one pair after the other:
    the most correlated pair first. Of a pair the unit of smaller variance goes (of equal ones the later) and gets its
    score. Later scores are never smaller, so any number of lowest scores is a run of such merges, each into a unit
    still there at the time. The last unit scores 1, a constant one 0: it is a bias.

    Args:
        activation_covariance: covariance of the activations over samples and positions, shape [units, units].

    Returns:
        Scores, shape [units], float32, in [0, 1]; larger means keep. NaN for a unit with a NaN in its row.

    Raises:
        ValueError: not a square matrix.

    Cost: O(units^2) time as a rule, O(units^3) at worst; on the CPU, since each merge depends on the one before.

    Example:
        >>> correlation(torch.tensor([[4.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 9.0]]))
        tensor([1.0000, 0.5000, 1.0000])

    Source:
        Babaeizadeh, Smaragdis, Campbell. NoiseOut: A Simple Way to Prune Neural Networks. 2016, arXiv:1611.06211.
        Differs: a score for all units in one call, without training in between; the larger variance stays.
    """
    shape = tuple(activation_covariance.shape)
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(f"activation_covariance has shape {shape}, allowed is [units, units]; pass a square matrix")
    covariance = activation_covariance.detach().to("cpu", torch.float64)
    variance = covariance.diagonal()
    scores = torch.zeros(shape[0], dtype=torch.float64, device="cpu")
    order = variance.argsort(descending=True, stable=True)
    order = order[~(variance[order] <= 0.0)]
    deviation = variance[order].sqrt()
    related = (covariance[order][:, order] / deviation / deviation[:, None]).abs().clamp(max=1.0)
    scores[order] = 1.0 - _largest_at_merge(related.tril(-1))
    scores[covariance.isnan().any(1)] = torch.nan
    return scores.to(activation_covariance.device, torch.float32)


def _largest_at_merge(related: Tensor) -> Tensor:
    """Return each unit's largest entry when it is merged; units by falling variance, entries below the diagonal."""
    result = torch.zeros(len(related), dtype=related.dtype)
    if len(related) < 2:
        return result
    best, partner = related.max(1)
    for _ in range(len(related) - 1):
        gone = int(best.argmax())
        result[gone], best[gone], related[:, gone] = best[gone], -1.0, 0.0
        orphans = ((partner == gone) & (best >= 0.0)).nonzero().flatten()
        best[orphans], partner[orphans] = related[orphans].max(1)
    return result
