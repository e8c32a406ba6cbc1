"""Gradient growth: where the loss would fall fastest."""

from collections.abc import Iterable

import torch
from torch import Tensor

from gossamer.masks import largest


def gradient(
    tiles: Iterable[tuple[int, Tensor]], kept: Tensor, closed_rows: Tensor, closed_columns: Tensor, *, count: int
) -> Tensor:
    """Choose the `count` absent entries whose gradient is largest in absolute value: the exact top-k.

    The dense gradient arrives in stretches of rows and only the best so far is held; equal gradients go to the lower
    index, whatever the stretches.

    Args:
        tiles: (first linear index, gradient [rows, columns]) in ascending order, see `weights.Weight.gradient_tiles`.
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

    Cost: O(rows * columns) time, memory O(count + one tile).

    Example:
        >>> none = torch.zeros(2, dtype=torch.bool)
        >>> gradient([(0, torch.tensor([[9.0, -3.0], [1.0, 2.0]]))], torch.tensor([0]), none, none, count=1)
        tensor([1])
    """
    kept = kept.contiguous()
    best_scores = torch.empty(0, device=kept.device)
    best = torch.empty(0, dtype=torch.int64, device=kept.device)
    for start, tile in tiles:
        scores = tile.abs().float()
        if bool(scores.isnan().any()):
            raise ValueError(
                "the gradient holds NaN, so nothing can be grown by it; check the data and the learning rate"
            )
        first_row = start // max(1, closed_columns.numel())
        scores[closed_rows[first_row : first_row + tile.shape[0]]] = -1.0
        scores[:, closed_columns] = -1.0
        scores = scores.flatten()
        low, high = torch.searchsorted(kept, torch.tensor([start, start + scores.numel()], device=kept.device)).tolist()
        scores[kept[low:high] - start] = -1.0
        # Only what beats the worst of the best can enter; on a tie the lower index, which came first, stays.
        bar = float(best_scores.min()) if count and best.numel() == count else -0.5
        entering = (scores > bar).nonzero().flatten()
        best_scores = torch.cat([best_scores, scores[entering]])
        best = torch.cat([best, entering + start])
        chosen = largest(best_scores, min(count, best.numel()))
        best_scores, best = best_scores[chosen], best[chosen]
    if best.numel() < count:
        raise ValueError(f"cannot grow {count} weights where {best.numel()} are absent; lower the number to grow")
    return best
