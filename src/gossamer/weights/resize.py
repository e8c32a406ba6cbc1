"""Axes that change their size: what was there moves to its new place, what is new is zero."""

from torch import Tensor


def take(tensor: Tensor, source: Tensor, axis: int) -> Tensor:
    """Return a tensor whose entries along an axis come from those of another.

    Args:
        tensor: any shape and dtype.
        source: where each entry comes from, -1 for a new one, which is zero; shape [new size], int64.
        axis: that changes.

    Example:
        >>> import torch
        >>> take(torch.tensor([5.0, 6.0, 7.0]), torch.tensor([0, 2, -1]), 0)
        tensor([5., 7., 0.])
    """
    source = source.to(tensor.device)
    if not tensor.shape[axis]:
        return tensor.new_zeros([*tensor.shape[:axis], source.numel(), *tensor.shape[axis + 1 :]])
    return tensor.index_select(axis, source.clamp(min=0)).index_fill_(axis, (source < 0).nonzero().flatten(), 0)


def destinations(source: Tensor, size: int) -> Tensor:
    """Return where each entry goes, -1 for one that goes nowhere: the other direction of `take`.

    Args:
        source: as for `take`, no entry twice.
        size: of the axis before.

    Example:
        >>> import torch
        >>> destinations(torch.tensor([0, 2, -1]), 4)
        tensor([ 0, -1,  1, -1])
    """
    found = source.new_full((size,), -1)
    stays = source >= 0
    found[source[stays]] = stays.nonzero().flatten()
    return found
