"""Gradient growth with a count for each group: each neuron, or each few inputs of it, by itself."""

from collections.abc import Iterable
from typing import NoReturn

import torch
from torch import Tensor


def gradient_in_groups(
    tiles: Iterable[tuple[int, Tensor]],
    kept: Tensor,
    closed_rows: Tensor,
    closed_columns: Tensor,
    *,
    groups: Tensor,
    counts: Tensor,
) -> Tensor:
    """Choose in each group of each row the absent entries whose gradient is largest in absolute value: the exact top-k.

    A group lies within one row, so that a tile of whole rows can be searched by itself; of equal gradients the lower
    index is taken.

    Args:
        tiles: (first linear index, gradient [rows, columns]) of whole rows in ascending order, see
            `weights.Weight.gradient_tiles`.
        kept: linear indices that are active, ascending, shape [n], int64.
        closed_rows: bool, shape [rows]; where nothing grows.
        closed_columns: bool, shape [columns], likewise.
        groups: the group of each column, 0 to the number of groups - 1, shape [columns], int64; all 0 where a row is
            one group.
        counts: how many to choose in each group, shape [rows, groups], int64.

    Returns:
        Linear indices, ascending, shape [sum of the counts], int64.

    Raises:
        ValueError: the gradient holds NaN, or a group has fewer absent entries than it shall grow.

    Source:
        Lasby, Golubeva, Evci, Nica, Ioannou. Dynamic Sparse Training with Structured Sparsity. ICLR 2024,
        arXiv:2305.02299.
        Differs: the dense gradient is never stored.

    Cost: O(rows * columns) time, memory O(what is grown + one tile).

    Example:
        >>> none, tile = torch.zeros(2, dtype=torch.bool), torch.tensor([[9.0, -3.0], [1.0, 2.0]])
        >>> row, one_each = torch.zeros(2, dtype=torch.long), torch.ones(2, 1, dtype=torch.long)
        >>> gradient_in_groups([(0, tile)], torch.tensor([0]), none, none, groups=row, counts=one_each)
        tensor([1, 3])
    """
    kept, columns = kept.contiguous(), closed_columns.numel()
    layout = _layout(groups, counts.shape[1])
    found = [kept.new_empty(0)]
    for start, tile in tiles:
        scores = tile.abs().float()
        if bool(scores.isnan().any()):
            raise ValueError(
                "the gradient holds NaN, so nothing can be grown by it; check the data and the learning rate"
            )
        row = start // max(1, columns)
        scores[closed_rows[row : row + tile.shape[0]]] = -1.0
        scores[:, closed_columns] = -1.0
        low, high = torch.searchsorted(kept, torch.tensor([start, start + scores.numel()], device=kept.device)).tolist()
        scores.view(-1)[kept[low:high] - start] = -1.0
        chosen = _chosen(scores, layout, counts[row : row + tile.shape[0]])
        found.append(chosen + start)
    return torch.cat(found)


def _layout(groups: Tensor, num_groups: int) -> Tensor:
    """The columns of each group, shape [groups, most columns of one]; a column too many where a group has fewer."""
    sizes = groups.bincount(minlength=num_groups)
    order = groups.argsort(stable=True)
    place = torch.arange(groups.numel(), device=groups.device) - (sizes.cumsum(0) - sizes)[groups[order]]
    width = int(sizes.max()) if groups.numel() else 0
    layout = torch.full((num_groups, width), groups.numel(), device=groups.device)
    layout[groups[order], place] = order
    return layout


def _chosen(scores: Tensor, layout: Tensor, counts: Tensor) -> Tensor:
    """Places of the largest scores of a tile, ascending; what is below 0 cannot be chosen."""
    rows, columns = scores.shape
    if layout.shape[0] > 1:
        scores = torch.cat([scores, scores.new_full((rows, 1), -1.0)], 1)[:, layout]
    lines, asked = scores.reshape(counts.numel(), layout.shape[1]), counts.reshape(-1, 1)
    most = int(asked.max()) if asked.numel() else 0
    if not most:
        return layout.new_empty(0)
    if most > lines.shape[1]:
        _refuse(lines, asked)
    best = lines.topk(most, dim=1).values
    threshold = best.gather(1, (asked - 1).clamp(min=0))
    if bool(((threshold < 0) & (asked > 0)).any()):
        _refuse(lines, asked)
    chosen = (lines >= threshold) & (asked > 0)
    crowded = (chosen.sum(1, keepdim=True) > asked).flatten().nonzero().flatten()
    # Only where equals are too many: the first of them.
    equal = lines[crowded] == threshold[crowded]
    first = equal.cumsum(1) <= asked[crowded] - (chosen[crowded] & ~equal).sum(1, keepdim=True)
    chosen[crowded] &= ~equal | first
    where, place = chosen.nonzero(as_tuple=True)
    row, group = where // layout.shape[0], where % layout.shape[0]
    return (row * columns + layout[group, place]).sort().values


def _refuse(lines: Tensor, asked: Tensor) -> NoReturn:
    free = (lines >= 0).sum(1, keepdim=True)
    line = int((free < asked).flatten().nonzero()[0])
    raise ValueError(
        f"cannot grow {int(asked[line])} weights in a group of which {int(free[line])} are absent; lower the number to "
        "grow"
    )
