"""What functions of torch do with the units of a layer: keep each to itself, move them about, or mix them."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# Functions of each number alone, up to the factors and shifts of a normalisation over the batch.
FOLLOWING = {
    F.batch_norm,
    torch.batch_norm,
    *(F.relu, F.relu6, F.leaky_relu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish, F.softplus, F.hardtanh),
    *(F.hardswish, F.sigmoid, F.tanh, F.logsigmoid, F.dropout),
    *(torch.relu, torch.relu_, torch.sigmoid, torch.tanh, torch.nn.functional.relu_),
    *(Tensor.relu, Tensor.relu_, Tensor.sigmoid, Tensor.tanh, Tensor.contiguous),
}
_MORE = {F.prelu, torch.prelu, F.hardsigmoid, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.softsign}
_RESHAPING = {
    *(torch.flatten, torch.reshape, torch.permute, torch.transpose, torch.movedim, torch.swapaxes),
    *(torch.squeeze, torch.unsqueeze, torch.unflatten, Tensor.flatten, Tensor.reshape, Tensor.permute),
    *(Tensor.transpose, Tensor.movedim, Tensor.swapaxes, Tensor.squeeze, Tensor.unsqueeze, Tensor.unflatten),
}
# Functions of the last axes, and how many these are.
POOLING = {
    **dict.fromkeys((F.max_pool1d, F.avg_pool1d, F.adaptive_avg_pool1d, F.adaptive_max_pool1d, F.lp_pool1d), 1),
    **dict.fromkeys((F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d, F.lp_pool2d), 2),
    **dict.fromkeys((F.max_pool3d, F.avg_pool3d, F.adaptive_avg_pool3d, F.adaptive_max_pool3d), 3),
}
_MEANS = {torch.mean, Tensor.mean}


def passed(func: Any, units: Tensor, args: Any, given: Any, result: Any) -> Tensor | None:
    """Return the unit that each entry of a function's result comes from; None where it cannot be said.

    Args:
        func: a function of torch, as a TorchFunctionMode sees it.
        units: unit of each entry of its first argument, int64, shape of that.
        args: what it was called with.
        given: its keywords.
        result: what it returned.
    """
    if not isinstance(result, Tensor):
        return None
    if func in FOLLOWING or func in _MORE:
        return units
    if func is Tensor.view:
        # The numbers lie differently in memory from those that are viewed.
        return units.reshape(*args[1:], **given)
    if func in _RESHAPING:
        reshaped: Tensor = func(units, *args[1:], **given)
        return reshaped
    if func in _MEANS:
        return _mean(units, args[1:], given)
    num_axes = _num_axes(func, args, given, units)
    lowest = None if num_axes is None else same_along(units, range(units.dim() - num_axes, units.dim()))
    return None if lowest is None else lowest.expand(result.shape)


def same_along(units: Tensor, axes: Iterable[int]) -> Tensor | None:
    """Return the units with axes of length 1 in place of some along which they do not differ; None where they do.

    Args:
        units: int64, any shape with entries; nothing of that size is made.
        axes: which.
    """
    axes = tuple(axes)
    lowest = units.amin(axes, keepdim=True) if axes else units
    return lowest if not axes or torch.equal(lowest, units.amax(axes, keepdim=True)) else None


def _num_axes(func: Any, args: Any, given: Any, units: Tensor) -> int | None:
    """How many of the last axes a function works along; None where it does something else."""
    if func is F.interpolate:
        return units.dim() - 2
    if func is F.pad:
        return len(args[1] if len(args) > 1 else given["pad"]) // 2
    return POOLING.get(func)


def _mean(units: Tensor, dims: Any, given: Any) -> Tensor | None:
    plain = {name: value for name, value in given.items() if name != "dtype"}
    lowest = torch.amin(units, *dims, **plain)
    return lowest if torch.equal(lowest, torch.amax(units, *dims, **plain)) else None
