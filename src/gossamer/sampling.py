"""Exact random choices without a list of what is chosen from: time and memory follow the number drawn."""

import numpy as np
import torch
from torch import Tensor


def distinct(total: int, count: int, *, generator: torch.Generator) -> Tensor:
    """Draw `count` different integers from [0, total), every such set equally likely.

    Args:
        total: size of the range, >= 0.
        count: how many, 0 <= count <= total.
        generator: source of randomness, on the CPU.

    Returns:
        The integers in ascending order, shape [count], int64, on the CPU.

    Raises:
        ValueError: count is negative or larger than total.

    Cost: O(count log count) time and O(count) memory, whatever `total` is.

    Example:
        >>> distinct(5, 5, generator=torch.Generator())
        tensor([0, 1, 2, 3, 4])
    """
    if not 0 <= count <= total:
        raise ValueError(f"cannot draw {count} different entries out of {total}; ask for at most {total}")
    if 2 * count > total:
        left_out = distinct(total, total - count, generator=generator)
        chosen = torch.ones(total, dtype=torch.bool, device="cpu")
        chosen[left_out] = False
        return chosen.nonzero().flatten()
    drawn = torch.empty(0, dtype=torch.int64, device="cpu")
    while drawn.numel() < count:
        # Some draws fall on a number already there; a surplus makes a second round rare.
        missing = count - drawn.numel()
        surplus = missing * missing // max(total, 1) + missing // 4 + 16
        fresh = torch.randint(total, (missing + surplus,), generator=generator, device="cpu")
        drawn = _distinct_values(torch.cat([drawn, fresh]))
    # Every number of the set is as likely to be surplus as any other.
    kept = torch.ones(drawn.numel(), dtype=torch.bool, device="cpu")
    kept[torch.randperm(drawn.numel(), generator=generator, device="cpu")[count:]] = False
    return drawn[kept]


def _distinct_values(numbers: Tensor) -> Tensor:
    """Sort and leave out repeats; numpy sorts integers several times faster than torch."""
    ordered = np.sort(numbers.numpy())
    first = np.ones(ordered.size, dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return torch.from_numpy(ordered[first])


def absent(present: Tensor, total: int, count: int, *, generator: torch.Generator) -> Tensor:
    """Draw `count` different integers from [0, total) that are not in `present`, uniformly.

    Args:
        present: ascending integers without repeats, shape [n], int64.
        total: size of the range.
        count: how many, at most total - n.
        generator: source of randomness, on the CPU.

    Returns:
        The integers in ascending order, shape [count], int64, on the device of `present`.

    Raises:
        ValueError: fewer than `count` are absent.

    Cost: O((count + n) log) time, no list of the absent ones.

    Example:
        >>> absent(torch.tensor([0, 2, 3]), 5, 2, generator=torch.Generator())
        tensor([1, 4])
    """
    ranks = distinct(total - present.numel(), count, generator=generator).to(present.device)
    # absent_before[i] = how many absent integers lie below present[i]
    absent_before = present - torch.arange(present.numel(), device=present.device)
    return ranks + torch.searchsorted(absent_before, ranks, right=True)


def distinct_in_rows(num_rows: int, total: int, count: int, *, generator: torch.Generator) -> Tensor:
    """Draw `count` different integers from [0, total) for each row, every such set equally likely.

    Args:
        num_rows: how many independent draws, >= 0.
        total: size of the range, >= 0.
        count: how many for each row, 0 <= count <= total.
        generator: source of randomness, on the CPU.

    Returns:
        Each row ascending, shape [num_rows, count], int64, on the CPU.

    Raises:
        ValueError: count is negative or larger than total.

    Cost: O(num_rows count^2) time and O(num_rows count) memory, whatever `total` is.

    Source:
        Bentley, Floyd. Programming pearls: a sample of brilliance. Communications of the ACM 1987.

    Example:
        >>> distinct_in_rows(2, 3, 3, generator=torch.Generator())
        tensor([[0, 1, 2], [0, 1, 2]])
    """
    if not 0 <= count <= total:
        raise ValueError(f"cannot draw {count} different entries out of {total}; ask for at most {total}")
    chosen = torch.empty(num_rows, count, dtype=torch.int64, device="cpu")
    for place in range(count):
        # One more integer becomes available; it is taken where the draw falls on one that is taken already.
        newest = total - count + place
        drawn = torch.randint(newest + 1, (num_rows,), generator=generator, device="cpu")
        taken = (chosen[:, :place] == drawn[:, None]).any(1)
        chosen[:, place] = torch.where(taken, newest, drawn)
    return chosen.sort(1).values
