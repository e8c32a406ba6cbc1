"""The optimizer's state of one parameter, moved along with the weights."""

from collections.abc import Callable, MutableMapping, MutableSequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer.weights.undo import assign_, clear_, write_at_


def move_state_(
    optimizer: Optimizer | None, parameter: nn.Parameter, shape: torch.Size, move: Callable[[Tensor], Tensor]
) -> None:
    """Apply `move` to every tensor of this shape that the optimizer keeps for the parameter, whatever its class."""
    if optimizer is not None and parameter in optimizer.state:
        assign_(optimizer.state, parameter, _moved(optimizer.state[parameter], shape, move))


def clear_state_(optimizer: Optimizer | None, parameter: nn.Parameter, gone: Tensor) -> None:
    """Set what the optimizer keeps for some entries of a parameter to zero; `gone` is bool, of its shape."""
    move_state_(optimizer, parameter, parameter.shape, lambda tensor: clear_(tensor, gone))


def clear_state_at_(optimizer: Optimizer | None, parameter: nn.Parameter, indices: Tensor) -> None:
    """Set what the optimizer keeps for a few entries of a parameter to zero: linear indices, shape [n], int64."""
    move_state_(optimizer, parameter, parameter.shape, lambda tensor: write_at_(tensor, 0, indices))


def _moved(value: Any, shape: torch.Size, move: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return move(value) if value.shape == shape else value
    if isinstance(value, tuple):
        items = [_moved(item, shape, move) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, (MutableMapping, MutableSequence)):
        for key in list(value) if isinstance(value, MutableMapping) else range(len(value)):
            if (moved := _moved(value[key], shape, move)) is not value[key]:
                assign_(value, key, moved)
    return value
