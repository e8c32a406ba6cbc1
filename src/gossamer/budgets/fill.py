"""Exact splits in proportion, between a least and a most for each part."""

import math
from collections.abc import Callable

from gossamer import counts


def proportional(total: int, wanted: list[float], least: list[int], most: list[int]) -> list[int]:
    """Split a total in proportion; a part that would pass a limit stays at it and the others share the rest.

    Args:
        total: what to split, from the sum of `least` to the sum of `most`.
        wanted: real-valued weights of the parts, each >= 0.
        least: smallest value of each part.
        most: largest value of each part.

    Returns:
        Integers that add up to the total, each within its limits.

    Example:
        >>> proportional(10, [1.0, 1.0, 8.0], [0, 3, 0], [9, 9, 6])
        [1, 3, 6]
    """
    limits = list(zip(wanted, least, most, strict=True))

    def parts(scale: float) -> list[float]:
        return [min(float(high), max(float(low), scale * share)) for share, low, high in limits]

    enough = max((high / share for share, _, high in limits if share), default=0.0)
    return level(total, parts, (0.0, enough), least, most)


def level(
    total: int, parts: Callable[[float], list[float]], ends: tuple[float, float], least: list[int], most: list[int]
) -> list[int]:
    """Find the level at which real-valued parts add up to a total, and round them so that they do so exactly.

    Where the sum jumps past the total at a level, each part takes the same share of its own jump.

    Args:
        total: what to split, from the sum of `least` to the sum of `most`.
        parts: level -> the parts, each rising with the level and within its limits.
        ends: a level with too little or just enough, and one with enough or too much.
        least: smallest value of each part.
        most: largest value of each part.

    Returns:
        Integers that add up to the total, each within its limits.
    """
    low, high = ends
    while low < (middle := low + (high - low) / 2) < high:
        low, high = (middle, high) if math.fsum(parts(middle)) <= total else (low, middle)
    below, above = parts(low), parts(high)
    jump = math.fsum(above) - math.fsum(below)
    share = min(1.0, max(0.0, (total - math.fsum(below)) / jump)) if jump > 0 else 0.0
    shares = [start + share * (end - start) for start, end in zip(below, above, strict=True)]
    # Rounding what lies above the least keeps every part within its limits.
    spare = counts.split(
        total - sum(least),
        [max(0.0, part - floor) for part, floor in zip(shares, least, strict=True)],
        [high - low for low, high in zip(least, most, strict=True)],
    )
    return [low + more for low, more in zip(least, spare, strict=True)]


def one_each(total: int, sizes: list[int]) -> list[int]:
    """Return the least that each tensor keeps: one weight where there are enough to go round, else none.

    Args:
        total: how many weights are kept in all.
        sizes: number of entries of each tensor.

    Example:
        >>> one_each(2, [5, 0, 5]), one_each(1, [5, 0, 5])
        ([1, 0, 1], [0, 0, 0])
    """
    least = [min(1, size) for size in sizes]
    return least if sum(least) <= total else [0] * len(sizes)
