"""What the sparse products are given: whether it fits together, and room for what comes out."""

from collections.abc import Sequence

import torch
from torch import Tensor

# row_pointers, column_indices, column_pointers, row_indices, permutation; of a convolution the last three by channel.
Index = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def check(x_FB: Tensor, values: Tensor, bias: Tensor | None, index: Sequence[Tensor]) -> None:
    """Raise ValueError unless the operands of `ops.sparse_linear` fit each other."""
    features = index[2].numel() - 1
    if x_FB.dim() != 2 or x_FB.shape[0] != features:
        raise ValueError(f"input has shape {tuple(x_FB.shape)}, the weight takes [{features}, batch]")
    check_parameters(x_FB, values, bias, index)


def check_parameters(x: Tensor, values: Tensor, bias: Tensor | None, index: Sequence[Tensor]) -> None:
    """Raise ValueError unless values and bias fit the topology, and the dtype of the input."""
    outputs = index[0].numel() - 1
    if values.shape != index[1].shape:
        raise ValueError(
            f"{values.numel()} values for a topology of {index[1].numel()} active weights; they must agree"
        )
    if x.dtype != values.dtype:
        raise ValueError(f"input is {x.dtype} but the weight is {values.dtype}; convert one, or use torch.autocast")
    if bias is not None and (bias.shape != (outputs,) or bias.dtype != values.dtype):
        raise ValueError(
            f"bias is {bias.dtype} of shape {tuple(bias.shape)}, the weight takes {values.dtype} of shape ({outputs},)"
        )


def is_narrow(tensor: Tensor) -> bool:
    """Whether it is computed in float32, which it is not stored in."""
    return tensor.dtype in (torch.float16, torch.bfloat16)


def is_autocast(tensor: Tensor) -> bool:
    """Return whether autocast is on where the tensor lies; there is none for tensors without numbers."""
    # Asked of "meta", torch raises.
    return not tensor.is_meta and torch.is_autocast_enabled(tensor.device.type)


def room(x_FB: Tensor, count: int) -> Tensor:
    """Return a vector that a kernel will fill, which it does only if there is a batch."""
    return x_FB.new_empty(count) if x_FB.shape[1] else x_FB.new_zeros(count)
