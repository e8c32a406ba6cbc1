"""Parameters that change their length: the values of a weight whose topology changes."""

import torch
from torch import Tensor, nn


def set_data_(parameter: nn.Parameter, data: Tensor) -> None:
    """Give a parameter other data, of another length maybe, while it stays the object that optimizers hold."""
    if data.shape != parameter.shape:
        parameter.grad = None
        # Autograd remembers the old shape as long as any graph is alive, and forgets it when the dtype changes.
        other = torch.float32 if parameter.dtype == torch.float64 else torch.float64
        parameter.data = data.new_empty(0, dtype=other)
    parameter.data = data
