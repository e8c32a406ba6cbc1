"""How many weights each tensor grows of those that all of them lost: the total is exact, and none outgrows its room."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from gossamer import growth, sampling
from gossamer.budgets.fill import proportional
from gossamer.masks import keep_largest_of
from gossamer.weights import Weight, num_open

Tiles = Callable[[Weight], Iterable[tuple[int, Tensor]]]


class Dropped(NamedTuple):
    """What all weights are about to lose, before anything grows; the weights themselves are as they were.

    Attributes:
        weights: all of them.
        kept: linear indices that stay in each, ascending.
        num_dropped: how many go of each.
        room: how many could grow in each: open places that are absent, those of what goes among them.
    """

    weights: list[Weight]
    kept: list[Tensor]
    num_dropped: list[int]
    room: list[int]


Allot = Callable[[Dropped, torch.Generator], list[int]]


def room_of(weight: Weight, kept: Tensor, is_open: Tensor) -> int:
    """Return how many entries of a weight could grow.

    Args:
        weight: any.
        kept: linear indices that stay, shape [n].
        is_open: which of them stand in no closed row or column, bool, shape [n].
    """
    return num_open(weight) - int(is_open.count_nonzero())


def apportion(total: int, wanted: list[float], room: list[int]) -> list[int]:
    """Split an integer in proportion; a part that would pass its room stays at it, and the others share the rest.

    What is wanted by none goes to those that wanted nothing, in proportion to their room. Rounding is by largest
    remainders, ties go to the first: the same arguments give the same parts.

    Args:
        total: what to split, 0 <= total <= sum of the room.
        wanted: real-valued shares, each >= 0 and finite.
        room: largest value of each part.

    Returns:
        Integers that add up to the total.

    Raises:
        ValueError: more to grow than there is room, or a share that is negative or no number.

    Example:
        >>> apportion(10, [1.0, 1.0, 2.0], [9, 9, 9]), apportion(10, [0.0, 0.0, 2.0], [9, 3, 6])
        ([3, 2, 5], [3, 1, 6])
    """
    if not 0 <= total <= sum(room):
        raise ValueError(f"cannot grow {total} weights where {sum(room)} are absent; lower the number to drop")
    for share in wanted:
        if not 0 <= share < float("inf"):
            raise ValueError(f"a share of what is grown is {share}; check the data and the learning rate")
    asked = [size if share else 0 for share, size in zip(wanted, room, strict=True)]
    first = proportional(min(total, sum(asked)), wanted, [0] * len(room), asked)
    spare = [size - most for size, most in zip(room, asked, strict=True)]
    rest = proportional(total - sum(first), [float(size) for size in spare], [0] * len(room), spare)
    return [one + other for one, other in zip(first, rest, strict=True)]


def by_loss(dropped: Dropped, generator: torch.Generator) -> list[int]:
    """Let each weight grow what it lost: nothing is redistributed."""
    return list(dropped.num_dropped)


def by_survivors(dropped: Dropped, generator: torch.Generator) -> list[int]:
    """Let each weight grow in proportion to what is left of it: large scores attract weights.

    Source: Mostafa, Wang. Parameter efficient training of deep convolutional neural networks by dynamic sparse
    reparameterization. ICML 2019, arXiv:1902.05967.
    """
    return apportion(sum(dropped.num_dropped), [float(kept.numel()) for kept in dropped.kept], dropped.room)


def at_random(dropped: Dropped, generator: torch.Generator) -> list[int]:
    """Draw what grows among all absent places of the model, each as likely as any other, and count it by weight.

    Source: Bellec, Kappel, Maass, Legenstein. Deep rewiring. ICLR 2018, arXiv:1711.05136.
    """
    places = sampling.distinct(sum(dropped.room), sum(dropped.num_dropped), generator=generator)
    ends = torch.tensor(dropped.room, dtype=torch.int64, device="cpu").cumsum(0)
    # How many of the places lie before the end of each weight's own.
    before = torch.searchsorted(places, ends).tolist()
    return [end - start for start, end in zip([0, *before[:-1]], before, strict=True)]


def by_largest(tiles: Tiles) -> Allot:
    """Let all absent places of the model compete: each weight grows as many as it has of the largest scores of all.

    Growth by the same scores in each weight then takes exactly the best of the model; equal ones go to the first
    weights.

    Args:
        tiles: weight -> its scores in stretches of rows, see `growth.gradient`; their absolute values count.

    Returns:
        The rule.

    Cost: two passes over the scores; the memory of as many numbers for each weight as are grown in all.
    """

    def allot(dropped: Dropped, generator: torch.Generator) -> list[int]:
        total = sum(dropped.num_dropped)
        best = {}
        for place, (weight, kept, room) in enumerate(zip(dropped.weights, dropped.kept, dropped.room, strict=True)):
            closed = weight.closed_rows, weight.closed_columns
            found = growth.gradient(tiles(weight), kept, *closed, count=min(total, room))
            best[str(place)] = scores_at(tiles(weight), found, weight.closed_columns.numel()).cpu()
        return [int(mask.count_nonzero()) for mask in keep_largest_of(best, total).values()]

    return allot


def scores_at(tiles: Iterable[tuple[int, Tensor]], places: Tensor, width: int) -> Tensor:
    """Return the absolute scores at some places.

    Args:
        tiles: (first linear index, scores [rows, columns]), each entry once.
        places: linear indices, ascending, shape [n].
        width: columns of the whole matrix.

    Returns:
        Shape [n], float32.
    """
    found = torch.zeros(places.shape, device=places.device)
    rows, columns = places // max(1, width), places % max(1, width)
    for first, tile in tiles:
        top, left = first // max(1, width), first % max(1, width)
        low, high = torch.searchsorted(rows, torch.tensor([top, top + tile.shape[0]], device=rows.device)).tolist()
        inside = (columns[low:high] >= left) & (columns[low:high] < left + tile.shape[1])
        here = low + inside.nonzero().flatten()
        found[here] = tile[rows[here] - top, columns[here] - left].abs().float()
    return found
