"""Sensitivity: each tensor is pruned until it alone would raise the loss as much as each other."""

import math
from collections.abc import Mapping

import numpy as np

from gossamer import counts
from gossamer.budgets.budget import check_names, sizes_of
from gossamer.budgets.fill import level, one_each

Scan = Mapping[float, float]


def sensitivity(
    shapes: Mapping[str, tuple[int, ...]], *, sparsity: float, losses: Mapping[str, Scan]
) -> dict[str, int]:
    """Choose the sparsities at which all tensors raise the loss alike, by a scan that pruned one tensor at a time.

    The rise of a tensor at sparsity s is loss(s) - loss(0), linear between the sparsities tried, never falling: where
    the scan falls again, the largest rise so far counts. Each tensor has the largest sparsity at which its rise is at
    most the common one. No tensor gets a sparsity above the largest one tried on it.

    Args:
        shapes: shape of each weight by name.
        sparsity: fraction removed over all tensors together, in [0, 1).
        losses: for each weight by name the loss by sparsity tried, from 0 (dense) up to 1 (emptied) at most.

    Returns:
        How many weights each tensor keeps; the total is exact.

    Raises:
        ValueError: sparsity outside [0, 1), larger than what the scan allows, or a scan that lacks, lacks the dense
            loss, or holds what is no finite loss or no sparsity.

    Example:
        >>> losses = {"a": {0.0: 1.0, 0.5: 1.1, 0.9: 2.0}, "b": {0.0: 1.0, 0.5: 1.0, 0.9: 1.1}}
        >>> sensitivity({"a": (10, 10), "b": (10, 10)}, sparsity=0.7, losses=losses)
        {'a': 50, 'b': 10}

    Source:
        Han, Pool, Tran, Dally. Learning both Weights and Connections for Efficient Neural Networks. NIPS 2015,
        arXiv:1506.02626.
        Differs: they read thresholds off the scan by eye; here one rise of the loss is found for all.
    """
    sizes = sizes_of(shapes)
    total = counts.num_active(sum(sizes.values()), sparsity)
    check_names(losses, shapes, what="losses")
    scans = [_envelope(name, losses[name]) for name in shapes]
    most = list(sizes.values())
    least = [
        max(one, math.ceil(size * (1.0 - tried[-1]) - 1e-9))
        for one, size, (tried, _) in zip(one_each(total, most), most, scans, strict=True)
    ]
    if sum(least) > total:
        raise ValueError(
            f"the scan goes up to sparsity {counts.sparsity_of(sum(least), sum(most)):.6g} over all tensors, "
            f"asked is {sparsity}; try larger sparsities in the scan or ask for less"
        )

    def kept(tolerance: float) -> list[float]:
        # `level` wants parts that rise, so it is asked for the negative of the rise of the loss.
        found = zip(most, least, scans, strict=True)
        return [max(float(floor), size * (1.0 - _largest(scan, -tolerance))) for size, floor, scan in found]

    worst = max((float(rises[-1]) for _, rises in scans), default=0.0)
    # At no rise at all the parts may jump, from what costs nothing to dense.
    ends = (0.0, math.ulp(0.0)) if math.fsum(kept(0.0)) <= total else (-worst, 0.0)
    return dict(zip(sizes, level(total, kept, ends, least, most), strict=True))


def _envelope(name: str, scan: Scan) -> tuple[np.ndarray, np.ndarray]:
    """The sparsities tried, ascending from 0, and the rise of the loss at each, never falling."""
    if 0 not in scan:
        raise ValueError(f"the scan of {name} lacks the dense loss; add it as the loss at sparsity 0.0")
    tried = np.array(sorted(scan), dtype=np.float64)
    losses = np.array([scan[key] for key in sorted(scan)], dtype=np.float64)
    if not (np.isfinite(losses).all() and (tried >= 0).all() and (tried <= 1).all()):
        raise ValueError(f"the scan of {name} must map sparsities in [0, 1] to finite losses, got {dict(scan)}")
    return tried, np.maximum.accumulate(losses - losses[0])


def _largest(scan: tuple[np.ndarray, np.ndarray], rise: float) -> float:
    """The largest sparsity with at most that rise of the loss; 0 for a rise below 0, the dense tensor."""
    tried, rises = scan
    after = int(np.searchsorted(rises, rise, side="right"))
    if after in (0, len(tried)):
        return float(tried[after - 1]) if after else 0.0
    share = (rise - rises[after - 1]) / (rises[after] - rises[after - 1])
    return float(tried[after - 1] + share * (tried[after] - tried[after - 1]))
