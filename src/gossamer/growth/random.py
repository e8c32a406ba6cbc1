"""Random growth: every absent entry is as likely as any other."""

import torch
from torch import Tensor

from gossamer import sampling
from gossamer.growth.places import open_only


def random(
    kept: Tensor, closed_rows: Tensor, closed_columns: Tensor, *, count: int, generator: torch.Generator
) -> Tensor:
    """Choose `count` absent entries uniformly over the whole weight.

    Args:
        kept: linear indices that are active, ascending, shape [n], int64.
        closed_rows: bool, shape [rows]; where nothing grows.
        closed_columns: bool, shape [columns], likewise.
        count: how many.
        generator: source of randomness, on the CPU.

    Returns:
        Linear indices, ascending, shape [count], int64.

    Raises:
        ValueError: fewer than `count` entries are absent.

    Source:
        Mocanu et al. 2018, arXiv:1707.04780. An entry dropped in the same update may come back.

    Cost: O(n + count), no list of the absent entries.

    Example:
        >>> none = torch.zeros(2, dtype=torch.bool)
        >>> random(torch.tensor([0, 3]), none, none, count=2, generator=torch.Generator())
        tensor([1, 2])
    """
    if not (closed_rows.any() or closed_columns.any()):
        return sampling.absent(kept, closed_rows.numel() * closed_columns.numel(), count, generator=generator)
    # Number the open rows and columns among themselves, draw in that smaller matrix, and number back.
    rows, columns = (~closed_rows).nonzero().flatten(), (~closed_columns).nonzero().flatten()
    width = closed_columns.numel()
    kept = open_only(kept, closed_rows, closed_columns)
    row_rank, column_rank = (~closed_rows).cumsum(0) - 1, (~closed_columns).cumsum(0) - 1
    dense_kept = row_rank[kept // width] * columns.numel() + column_rank[kept % width]
    drawn = sampling.absent(dense_kept, rows.numel() * columns.numel(), count, generator=generator)
    return rows[drawn // columns.numel()] * width + columns[drawn % columns.numel()] if count else drawn
