"""Parameters: where they are drawn, and how they change their length, as values do when their topology changes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Movable(Protocol):
    """What `nn.Module` is here."""

    def to(self, device: torch.device, /) -> Any:
        """As of nn.Module."""


@contextmanager
def drawn_on_cpu(module: Movable) -> Iterator[None]:
    """Have a module made on the CPU, where generators are, and then moved to the device on which torch makes tensors.

    Args:
        module: whose parameters and buffers are registered meanwhile.
    """
    device = torch.get_default_device()
    with torch.device("cpu"):
        yield
    if device.type != "cpu":
        module.to(device)


def set_data_(parameter: nn.Parameter, data: Tensor) -> None:
    """Give a parameter other data, of another length maybe, while it stays the object that optimizers hold."""
    if data.shape != parameter.shape:
        parameter.grad = None
        # Autograd remembers the old shape as long as any graph is alive, and forgets it when the dtype changes.
        other = torch.float32 if parameter.dtype == torch.float64 else torch.float64
        parameter.data = data.new_empty(0, dtype=other)
    parameter.data = data
