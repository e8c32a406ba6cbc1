"""The optimizer's state of one parameter, moved along with the weights."""

from collections.abc import Callable, MutableMapping, MutableSequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def move_state_(
    optimizer: Optimizer | None, parameter: nn.Parameter, shape: torch.Size, move: Callable[[Tensor], Tensor]
) -> None:
    """Apply `move` to every tensor of this shape that the optimizer keeps for the parameter, whatever its class."""
    if optimizer is not None and parameter in optimizer.state:
        optimizer.state[parameter] = _moved(optimizer.state[parameter], shape, move)


def _moved(value: Any, shape: torch.Size, move: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return move(value) if value.shape == shape else value
    if isinstance(value, tuple):
        items = [_moved(item, shape, move) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, (MutableMapping, MutableSequence)):
        for key in list(value) if isinstance(value, MutableMapping) else range(len(value)):
            value[key] = _moved(value[key], shape, move)
    return value
