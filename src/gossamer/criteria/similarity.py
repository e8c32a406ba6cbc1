"""Similarity: a unit with a near twin can be merged into it."""

import torch
from torch import Tensor

from gossamer.criteria.inputs import filters


def similarity(weight: Tensor, outgoing: Tensor) -> Tensor:
    """Score each unit by what it would cost to let the most similar unit take over its readers.

    score_j = min over i != j of <a_j^2> ||W_i - W_j||^2

    a_j are the weights with which the next layer reads unit j, <> is their mean. If unit j goes and a_i becomes
    a_i + a_j, the mean squared change of the outputs is at most this times the squared norm of the inputs, with any
    activation function of slope at most 1. Twins both score low: drop one unit, add its outgoing weights to those of
    its twin, and score again. A bias is one more input that is always 1: append it to `weight` as a column.

    Args:
        weight: current values, shape [units, in, ...].
        outgoing: weight of the layer that reads these units, shape [out2, units, ...].

    Returns:
        Scores, shape [units], float32, never negative; larger means keep.

    Raises:
        ValueError: `outgoing` reads another number of units, or one of the two has fewer than two dimensions.

    Cost: O(units^2 * fan-in) time, O(units^2 + weight) memory.

    Example:
        >>> similarity(torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([[2.0, 1.0, 3.0]]))
        tensor([  4.,   1., 144.])

    Source:
        Srinivas, Babu. Data-free parameter pruning for Deep Neural Networks. BMVC 2015, arXiv:1507.06149.
        Differs: the score of a unit is the smallest entry of its column, so that all units are judged by one call.
        A unit without others is compared with zero, <a^2> ||W||^2: there is nothing to merge it with.
    """
    if weight.dim() < 2 or outgoing.dim() < 2 or outgoing.shape[1] != weight.shape[0]:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}, outgoing {tuple(outgoing.shape)}; allowed are [units, in, ...] "
            "and [out2, units, ...], so pass the weight that reads these units"
        )
    rows, readers = filters(weight), filters(outgoing.transpose(0, 1))
    reading = readers.square().sum(1) / max(1, readers.shape[1])
    return (reading * _nearest(rows).square()).float()


def _nearest(rows: Tensor) -> Tensor:
    """Return the distance of each row to the nearest other; a lone row's to zero."""
    if len(rows) < 2:
        return rows.square().sum(1).sqrt()
    # Distances by matrix products are faster, but lose equal and nearly equal rows in rounding.
    distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.fill_diagonal_(torch.inf).amin(1)
