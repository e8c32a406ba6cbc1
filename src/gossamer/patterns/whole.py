"""Masks made of whole blocks of a matrix: which counts they can have, and the best one of a count.

Blocks are counted from the upper left corner. Where their size does not divide that of the matrix, those at the right
and at the bottom are cut off, so there are up to four sizes: inner, right edge, bottom edge and corner.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from gossamer import masks
from gossamer.patterns.pattern import Matrix, nearest_multiple


class Part(NamedTuple):
    """Blocks of one size.

    Attributes:
        size: entries of each, >= 1.
        number: how many there are, >= 0.
        place: where they stand in the matrix of blocks.
    """

    size: int
    number: int
    place: tuple[slice, slice]


def parts_of(matrix: Matrix, block: Matrix) -> list[Part]:
    """List inner, right edge, bottom edge and corner blocks; parts that do not occur have number 0 and size 1.

    Args:
        matrix: (rows, columns), both >= 1.
        block: (rows, columns) of a block, both >= 1.

    Example:
        >>> [(part.size, part.number) for part in parts_of((5, 7), (2, 3))]
        [(6, 4), (2, 2), (3, 2), (1, 1)]
    """
    (rows, columns), (tall, wide) = matrix, block
    down, below = divmod(rows, tall)
    across, beside = divmod(columns, wide)
    found = []
    for height, num_down, at_rows in ((tall, down, slice(0, down)), (below, int(below > 0), slice(down, None))):
        for width, num_across, at_columns in (
            (wide, across, slice(0, across)),
            (beside, int(beside > 0), slice(across, None)),
        ):
            number = num_down * num_across
            found.append(Part(height * width if number else 1, number, (at_rows, at_columns)))
    return found


def nearest(matrix: Matrix, block: Matrix, num_active: int) -> int:
    """Return the count nearest to the asked one; the smaller of two, and 0 only if 0 is asked for.

    Args:
        matrix: (rows, columns).
        block: (rows, columns) of a block, both >= 1.
        num_active: the asked count, from 0 to the number of entries.

    Cost: O(1), or O(blocks) where edge blocks are cut off.

    Example:
        >>> nearest((4, 6), (2, 3), 9), nearest((5, 7), (2, 3), 9)
        (6, 9)
    """
    if not 0 < num_active < matrix[0] * matrix[1]:
        return num_active
    inner, *edges = parts_of(matrix, block)
    if not any(edge.number for edge in edges):
        return nearest_multiple(inner.size, inner.number, num_active)
    on_edges = _edge_sizes(edges)
    fewer = ((num_active - on_edges) // inner.size).clamp(0, inner.number)
    reachable = torch.cat([on_edges + number * inner.size for number in (fewer, (fewer + 1).clamp(max=inner.number))])
    reachable = reachable[reachable > 0]
    # Twice the distance, and one more for the larger of two that are equally near.
    return int(reachable[(2 * (reachable - num_active).abs() + (reachable > num_active)).argmin()])


def keep(scores: Tensor, block: Matrix, num_active: int) -> Tensor:
    """Mark the whole blocks, `num_active` entries in all, with the largest sum of scores.

    Sums are taken in float64. Of equal blocks of one size the first stay, by rows; of equal sums the one with the
    fewest blocks cut off at the right stays, then at the bottom.

    Args:
        scores: shape [rows, columns], no NaN.
        block: (rows, columns) of a block, both >= 1.
        num_active: a count that `nearest` returns.

    Returns:
        Mask, bool, shape [rows, columns].

    Raises:
        ValueError: a block holds both inf and -inf.

    Cost: O(entries + blocks log blocks) time; a float64 for each block, where edges are cut off one for each entry.
    """
    rows, columns = scores.shape
    kept = torch.zeros_like(scores, dtype=torch.bool)
    if not num_active:
        return kept
    tall, wide = min(block[0], rows), min(block[1], columns)
    sums = block_sums(scores, (tall, wide))
    parts = parts_of((rows, columns), (tall, wide))
    chosen = torch.zeros_like(sums, dtype=torch.bool)
    for part, number in zip(parts, _best_numbers(sums, parts, num_active), strict=True):
        chosen[part.place] = masks.keep_largest(sums[part.place], number)
    return chosen.repeat_interleave(tall, 0)[:rows].repeat_interleave(wide, 1)[:, :columns].contiguous()


def groups(matrix: Matrix, block: Matrix) -> Tensor:
    """Number the blocks by rows; return the number of each entry, shape [rows, columns], int64.

    Args:
        matrix: (rows, columns).
        block: (rows, columns) of a block, both >= 1.

    Example:
        >>> groups((2, 5), (1, 2))
        tensor([[0, 0, 1, 1, 2],
                [3, 3, 4, 4, 5]])
    """
    across = -(-matrix[1] // block[1])
    down = torch.arange(matrix[0])[:, None] // block[0]
    return down * across + torch.arange(matrix[1]) // block[1]


def block_sums(scores: Tensor, block: Matrix) -> Tensor:
    """Sum the scores of each block in float64, shape [blocks down, blocks across].

    Args:
        scores: shape [rows, columns].
        block: (rows, columns) of a block, both >= 1.

    Raises:
        ValueError: a block holds both inf and -inf.
    """
    rows, columns = scores.shape
    beside, below = -columns % block[1], -rows % block[0]
    padded = functional.pad(scores.detach(), (0, beside, 0, below)) if beside or below else scores.detach()
    down, across = padded.shape[0] // block[0], padded.shape[1] // block[1]
    sums = padded.reshape(down, block[0], across, block[1]).sum((1, 3), dtype=torch.float64)
    if bool(sums.isnan().any()):
        raise ValueError(f"{int(sums.isnan().sum())} groups hold both inf and -inf, which have no sum; use one of them")
    return sums


def _edge_sizes(edges: list[Part]) -> Tensor:
    """Return how many entries each choice of edge blocks has, flat: right by bottom by corner."""
    choices = [torch.arange(edge.number + 1) * edge.size for edge in edges]
    return (choices[0][:, None, None] + choices[1][:, None] + choices[2]).flatten()


def _best_numbers(sums: Tensor, parts: list[Part], num_active: int) -> list[int]:
    """Return how many blocks of each part the best mask has: the choice with the largest sum."""
    inner, *edges = parts
    missing = num_active - _edge_sizes(edges)
    possible = (missing % inner.size == 0) & (missing >= 0) & (missing <= inner.number * inner.size)
    places = possible.nonzero().flatten()
    numbers = torch.unravel_index(places, [edge.number + 1 for edge in edges])
    choices = [missing[places] // inner.size, *numbers]
    if places.numel() > 1:
        places = torch.arange(places.numel())
        for totals in _totals(sums, parts, choices):
            places = places[totals[places] == totals[places].max()]
        choices = [number[places] for number in choices]
    return [int(number[0]) for number in choices]


def _totals(sums: Tensor, parts: list[Part], choices: list[Tensor]) -> Iterator[Tensor]:
    """Yield for each choice how many of its blocks are infinite, with their sign, and the sum of the others."""
    best = [sums[part.place].flatten().sort(descending=True).values.cpu() for part in parts]
    for values in ([part.sign() * part.isinf() for part in best], [part.nan_to_num(0, 0, 0) for part in best]):
        running = [torch.cat([part.new_zeros(1), part.cumsum(0)]) for part in values]
        yield torch.stack([total[number] for total, number in zip(running, choices, strict=True)]).sum(0)
