"""Momentum growth: where the loss fell fastest over the last steps."""

from collections.abc import Iterable

from torch import Tensor

from gossamer.growth.search import largest_absent


def momentum(
    tiles: Iterable[tuple[int, Tensor]], kept: Tensor, closed_rows: Tensor, closed_columns: Tensor, *, count: int
) -> Tensor:
    """Choose the `count` absent entries whose momentum is largest in absolute value: the exact top-k.

    Args:
        tiles: (first linear index, momentum [rows, columns]) in any order, each entry once; of a dense momentum one
            tile is enough: `[(0, momentum.flatten(1))]`.
        kept: linear indices that are active, ascending, shape [n], int64.
        closed_rows: bool, shape [rows]; where nothing grows.
        closed_columns: bool, shape [columns], likewise.
        count: how many.

    Returns:
        Linear indices, ascending, shape [count], int64; of equal ones those with the lower index.

    Raises:
        ValueError: the momentum holds NaN, or fewer than `count` entries are absent.

    Source:
        Dettmers, Zettlemoyer. Sparse networks from scratch: faster training without losing performance. 2019,
        arXiv:1907.04840.

    Cost: as `gradient`; to have the momentum of absent entries costs a dense tensor.

    Example:
        >>> import torch
        >>> none = torch.zeros(2, dtype=torch.bool)
        >>> momentum([(0, torch.tensor([[9.0, 0.5], [-1.0, 0.0]]))], torch.tensor([0]), none, none, count=1)
        tensor([2])
    """
    return largest_absent(tiles, kept, closed_rows, closed_columns, count=count, what="momentum")
