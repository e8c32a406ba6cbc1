"""Budgets of a cost: the largest model that fits into so many operations or bytes."""

import math
from collections.abc import Callable, Mapping

from gossamer import counts
from gossamer.budgets.budget import Budget, Shapes, check_names, sizes_of


def within_flops(
    shapes: Mapping[str, tuple[int, ...]], *, budget_flops: float, flops_per_weight: Mapping[str, float], split: Budget
) -> dict[str, int]:
    """Keep as many weights as fit into a number of operations.

    Args:
        shapes: shape of each weight by name.
        budget_flops: operations allowed for one sample, > 0.
        flops_per_weight: operations that one active weight costs, by name: 2 for a linear layer, 2 x positions for a
            convolution.
        split: splits a total over the tensors; for one with scores, `functools.partial(global_, scores=scores)`.

    Returns:
        How many weights each tensor keeps: what `split` gives for a sparsity that fits while one weight more does not.

    Raises:
        ValueError: even the sparsest split does not fit, a cost lacks, or a number that is not positive.

    Example:
        >>> from gossamer.budgets import uniform
        >>> shapes = {"conv": (8, 3, 3, 3), "fc": (10, 80)}
        >>> within_flops(shapes, budget_flops=10_000, flops_per_weight={"conv": 128, "fc": 2}, split=uniform)
        {'conv': 73, 'fc': 272}

    Source:
        Gordon, Eban, Nachum, Chen, Wu, Yang, Choi. MorphNet. CVPR 2018, arXiv:1711.06798: a limit on operations.
        Differs: a search over the sparsity of any budget; the paper learns the widths of layers.

    Cost: one split for each halving of the number of weights, about 25.
    """
    check_names(flops_per_weight, shapes, what="flops_per_weight")
    for name, flops in flops_per_weight.items():
        _check(flops, f"flops_per_weight of {name}")
    return _largest(
        shapes,
        _check(budget_flops, "budget_flops"),
        lambda kept: math.fsum(kept[name] * flops_per_weight[name] for name in shapes),
        split,
    )


def within_bytes(
    shapes: Mapping[str, tuple[int, ...]],
    *,
    budget_bytes: float,
    value_bytes: float = 4,
    index_bytes: float = 4,
    split: Budget,
) -> dict[str, int]:
    """Keep as many weights as fit into a number of bytes.

    A tensor costs a value and an index for each active weight, or a value for each entry where that is less: it is then
    stored dense, without indices.

    Args:
        shapes: shape of each weight by name.
        budget_bytes: bytes allowed, > 0.
        value_bytes: bytes of a value, > 0.
        index_bytes: bytes of an index, > 0.
        split: splits a total over the tensors; for one with scores, `functools.partial(global_, scores=scores)`.

    Returns:
        How many weights each tensor keeps: what `split` gives for a sparsity that fits while one weight more does not.

    Raises:
        ValueError: even the sparsest split does not fit, or a number that is not positive.

    Example:
        >>> from gossamer.budgets import erk
        >>> within_bytes({"fc1": (300, 784), "fc2": (10, 300)}, budget_bytes=100_000, split=erk)
        {'fc1': 11000, 'fc2': 3000}

    Source:
        Han, Mao, Dally. Deep Compression. ICLR 2016, arXiv:1510.00149: indices count as storage.
        Differs: indices of one width, no run lengths and no codes.

    Cost: one split for each halving of the number of weights, about 25.
    """
    value, index = _check(value_bytes, "value_bytes"), _check(index_bytes, "index_bytes")
    sizes = sizes_of(shapes)
    return _largest(
        shapes,
        _check(budget_bytes, "budget_bytes"),
        lambda kept: math.fsum(min(kept[name] * (value + index), size * value) for name, size in sizes.items()),
        split,
    )


def _check(number: float, name: str) -> float:
    if not 0 < number < math.inf:
        raise ValueError(f"{name} must be a positive number, got {number}")
    return number


def _largest(shapes: Shapes, limit: float, cost: Callable[[Mapping[str, int]], float], split: Budget) -> dict[str, int]:
    """The densest split whose cost is within the limit, found by halving the range of the total."""
    entries = sum(sizes_of(shapes).values())
    best = split(shapes, sparsity=0.0)
    if cost(best) <= limit:
        return best
    found, low, high, smallest = False, 0, entries, cost(best)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            parts = split(shapes, sparsity=counts.sparsity_of(middle, entries))
        except ValueError:
            # A budget with limits of its own, such as uniform_plus, refuses what is too sparse for it.
            low = middle
            continue
        if cost(parts) <= limit:
            best, found, low = parts, True, middle
        else:
            high, smallest = middle, cost(parts)
    if not found:
        raise ValueError(f"the sparsest split costs {smallest:.6g}, allowed are {limit:.10g}; allow more")
    return best
