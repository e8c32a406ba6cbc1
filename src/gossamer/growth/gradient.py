"""Gradient growth: where the loss would fall fastest."""

from collections.abc import Iterable

from torch import Tensor

from gossamer.growth.search import largest_absent


def gradient(
    tiles: Iterable[tuple[int, Tensor]], kept: Tensor, closed_rows: Tensor, closed_columns: Tensor, *, count: int
) -> Tensor:
    """Choose the `count` absent entries whose gradient is largest in absolute value: the exact top-k.

    The dense gradient arrives in tiles and only the best so far are held; equal gradients go to the lower index,
    however the tiles are cut.

    Args:
        tiles: (first linear index, gradient [rows, columns]) in any order, see `weights.Weight.gradient_tiles`; a
            dense tensor is one tile: `[(0, tensor.flatten(1))]`.
        kept: linear indices that are active, ascending, shape [n], int64.
        closed_rows: bool, shape [rows]; where nothing grows.
        closed_columns: bool, shape [columns], likewise.
        count: how many.

    Returns:
        Linear indices, ascending, shape [count], int64.

    Raises:
        ValueError: the gradient holds NaN, or fewer than `count` entries are absent.

    Source:
        Evci, Gale, Menick, Castro, Elsen. Rigging the Lottery. ICML 2020, arXiv:1911.11134.
        Differs: the dense gradient is never stored; entries dropped in the same update compete, as in the
        authors' code.

    Cost: one pass over each tile: O(rows * columns) time. Memory beside one tile: 12 (2 count + 16,384) bytes.

    Example:
        >>> import torch
        >>> none = torch.zeros(2, dtype=torch.bool)
        >>> gradient([(0, torch.tensor([[9.0, -3.0], [1.0, 2.0]]))], torch.tensor([0]), none, none, count=1)
        tensor([1])
    """
    return largest_absent(tiles, kept, closed_rows, closed_columns, count=count, what="gradient")
