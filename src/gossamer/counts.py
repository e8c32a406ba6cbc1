"""Sparsity to integers and back: the only place that rounds."""

import math


def check_sparsity(sparsity: float) -> float:
    """Return `sparsity` if it is a fraction in [0, 1), else raise.

    Raises:
        ValueError: it lies outside [0, 1) or is not a number.

    Example:
        >>> check_sparsity(0.9)
        0.9
    """
    if not 0.0 <= sparsity < 1.0:
        raise ValueError(
            f"sparsity must lie in [0, 1), got {sparsity}; it is the fraction removed, so 0.9 keeps one weight in ten"
        )
    return sparsity


def check_fraction(fraction: float, *, name: str) -> float:
    """Return `fraction` if it lies in [0, 1], else raise.

    Args:
        fraction: what a user gave.
        name: what the error calls it.

    Raises:
        ValueError: it lies outside [0, 1] or is not a number.
    """
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(f"{name} must lie in [0, 1], got {fraction}; 0.3 stands for 30 %")
    return fraction


def check_positive(value: int, *, name: str) -> int:
    """Return `value` if it is at least 1, else raise.

    Args:
        value: what a user gave.
        name: what the error calls it.

    Raises:
        ValueError: it is below 1.
    """
    if value < 1:
        raise ValueError(f"{name} must be 1 or more, got {value}")
    return value


def num_active(numel: int, sparsity: float) -> int:
    """Return how many of `numel` weights stay at this sparsity: the nearest integer, at least one if there are any.

    Args:
        numel: number of weights of the dense tensor, >= 0.
        sparsity: fraction removed, in [0, 1).

    Raises:
        ValueError: sparsity outside [0, 1).

    Example:
        >>> num_active(512, 0.9), num_active(10, 0.99), num_active(0, 0.5)
        (51, 1, 0)
    """
    return min(numel, max(1, round(numel * (1.0 - check_sparsity(sparsity)))))


def sparsity_of(active: int, numel: int) -> float:
    """Return the fraction removed, in [0, 1]; 0 for a tensor without entries.

    Args:
        active: weights that exist, in [0, numel].
        numel: number of weights of the dense tensor, >= 0.

    Example:
        >>> sparsity_of(50, 1000)
        0.95
    """
    return 1.0 - active / numel if numel else 0.0


def num_dropped(active: int, drop_fraction: float) -> int:
    """Return how many of `active` weights a drop removes: the integer part, as RigL and SET do.

    Args:
        active: weights that exist in the group, >= 0.
        drop_fraction: fraction of them, in [0, 1].

    Raises:
        ValueError: drop_fraction outside [0, 1].

    Example:
        >>> num_dropped(100, 0.29), num_dropped(3, 0.3)
        (29, 0)
    """
    # A fraction such as 0.29 lies a hair below its decimal, which must not cost a weight, in a large layer neither.
    return min(active, math.floor(active * check_fraction(drop_fraction, name="drop_fraction") * (1 + 2**-51) + 1e-9))


def split(total: int, shares: list[float], limits: list[int]) -> list[int]:
    """Split an integer by real-valued shares so that the parts add up to it and none passes its limit.

    Each part is the integer part of its share; what is missing goes to the largest remainders, ties to the first.

    Args:
        total: what to split, 0 <= total <= sum of the limits.
        shares: wanted parts, one or more, each >= 0.
        limits: largest value of each part.

    Returns:
        The parts, integers in [0, limit], in the order of the shares.

    Raises:
        ValueError: total does not fit within the limits.

    Example:
        >>> split(10, [3.5, 3.5, 3.0], [9, 9, 9])
        [4, 3, 3]
    """
    if not 0 <= total <= sum(limits):
        raise ValueError(f"cannot place {total} weights where {sum(limits)} fit; lower the sparsity or the total")
    parts = [min(math.floor(share), limit) for share, limit in zip(shares, limits, strict=True)]
    order = sorted(range(len(shares)), key=lambda i: (math.floor(shares[i]) - shares[i], i))
    missing = total - sum(parts)
    while missing:
        step = 1 if missing > 0 else -1
        for i in order if missing > 0 else reversed(order):
            if missing and 0 <= parts[i] + step <= limits[i]:
                parts[i] += step
                missing -= step
    return parts


def nearest(value: float, limit: int) -> int:
    """Return the integer nearest to a real-valued count, within [0, limit].

    Args:
        value: the wanted count.
        limit: largest value, >= 0.

    Example:
        >>> nearest(13 * (784 + 1000), 784_000), nearest(13_130.0, 10_000)
        (23192, 10000)
    """
    return min(limit, max(0, round(value)))
