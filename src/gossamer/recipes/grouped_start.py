"""Where weights start of which each group has its number: drawn at random, or what there is filled up and cut down."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.optim import Optimizer

from gossamer import criteria, growth, ranking
from gossamer.updates.exchange_in_groups import group_of, keep_in_groups
from gossamer.weights import Weight
from gossamer.weights.tiles import tiles


def draw_in_groups(shape: tuple[int, ...], groups: Tensor, counts: Tensor, *, generator: torch.Generator) -> Tensor:
    """Draw a mask with a number of active entries in each group, every such mask as likely as any other.

    Args:
        shape: of the mask.
        groups: of each column of the matrix [out, in * kernel], shape [columns], int64.
        counts: how many entries of each group are True, shape [rows, groups], int64.
        generator: source of randomness, on the CPU.

    Returns:
        Mask, bool, of that shape, on the CPU.

    Raises:
        ValueError: a group has fewer entries than that.
    """
    closed = torch.zeros(shape[0], dtype=torch.bool), torch.zeros(groups.numel(), dtype=torch.bool)
    none = torch.empty(0, dtype=torch.int64)
    drawn = growth.gradient_in_groups(
        _random_tiles(shape[0], groups.numel(), none.device, generator), none, *closed, groups=groups, counts=counts
    )
    return torch.zeros(math.prod(shape), dtype=torch.bool).index_fill_(0, drawn, True).view(shape)


def fill_groups_(
    weight: Weight, groups: Tensor, counts: Tensor, optimizer: Optimizer, *, generator: torch.Generator
) -> None:
    """Bring each group of a weight to its number: the smallest values of full ones go, others grow at random.

    What grows gets first values by its live fan-in. A weight whose groups have their numbers stays as it is, and
    nothing is drawn then.

    Args:
        weight: in either storage.
        groups: of each column, shape [columns], int64.
        counts: how many weights each group shall have, shape [rows, groups], int64.
        optimizer: holds the weight.
        generator: source of randomness, on the CPU.

    Raises:
        ValueError: a group has fewer open entries than that.
    """
    indices, columns = weight.indices(), groups.numel()
    found = group_of(indices, groups).bincount(minlength=counts.numel())
    if torch.equal(found, counts.flatten()):
        return
    kept = ranking.places(
        keep_in_groups(criteria.magnitude(weight.values()), group_of(indices, groups), counts.flatten())
    )
    grown = growth.gradient_in_groups(
        _random_tiles(weight.shape[0], columns, indices.device, generator),
        indices[kept],
        weight.closed_rows,
        weight.closed_columns,
        groups=groups,
        counts=(counts.flatten() - found).clamp(min=0).view(counts.shape),
    )
    values = growth.fan_in_uniform(grown // columns, counts.sum(1), generator=generator)
    weight.change_(kept, grown, values, optimizer)


def _random_tiles(
    rows: int, columns: int, device: torch.device, generator: torch.Generator
) -> Iterator[tuple[int, Tensor]]:
    """Numbers to be ranked by, in place of a gradient."""
    for start, stop, _, _ in tiles(rows, columns, itemsize=4, whole_rows=True):
        yield start * columns, torch.rand(stop - start, columns, generator=generator, device="cpu").to(device)
