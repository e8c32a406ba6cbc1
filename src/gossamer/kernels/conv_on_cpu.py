"""The sparse convolution on the CPU: the order of its weight for the backward pass, plans, and the kernels' calls."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from torch import Tensor

from gossamer import topology
from gossamer.kernels import conv, conv_backward, conv_plan
from gossamer.kernels.conv_fallback import Window
from gossamer.kernels.operands import check_parameters, is_narrow
from gossamer.topology import Topology


def by_channel(places: Topology, window: Window) -> tuple[Tensor, Tensor, Tensor]:
    """Order the entries of a convolution's weight by the input channel that they read, for the gradient of the input.

    With a stride each channel has several rows, one for each phase: the entries of a row write to the same pixels.

    Args:
        places: topology of the matrix [O, C / groups * places of the kernel].
        window: of the convolution.

    Returns:
        channel_pointers, shape [C * stride_height * stride_width + 1]; channel_indices, shape [K]: output within the
        group * places of the kernel + place in the kernel; permutation, shape [K]: where each stands in row order.
    """
    columns = places.column_indices.long()
    group_outputs = places.shape[0] // window.groups
    group_inputs = places.shape[1] // window.places
    place = columns % window.places
    group = topology.row_indices(places).div(max(1, group_outputs), rounding_mode="floor")
    channel = group * group_inputs + columns // window.places
    row = place // window.kernel_width * window.dilation_height % window.stride_height
    column = place % window.kernel_width * window.dilation_width % window.stride_width
    phases = window.stride_height * window.stride_width
    key = channel * phases + row * window.stride_width + column
    shape = (places.shape[0], group_inputs * window.groups * phases)
    ordered = topology.transpose(Topology(shape, places.row_pointers, key.to(places.column_indices.dtype)))
    outputs = ordered.row_indices % max(1, group_outputs)
    indices = outputs * window.places + place[ordered.permutation.long()]
    return ordered.column_pointers, indices.to(places.column_indices.dtype), ordered.permutation


def check(x: Tensor, values: Tensor, bias: Tensor | None, index: Sequence[Tensor], window: Window) -> None:
    """Raise ValueError unless the operands of a sparse convolution fit each other."""
    channels = (index[2].numel() - 1) // (window.stride_height * window.stride_width)
    if x.dim() != 4 or x.shape[1] != channels:
        raise ValueError(f"input has shape {tuple(x.shape)}, the weight takes [batch, {channels}, height, width]")
    if min(window.result(x.shape[2], x.shape[3])) < 1:
        raise ValueError(
            f"an image of {x.shape[2]} x {x.shape[3]} is smaller than the kernel, {window.kernel_height} x "
            f"{window.kernel_width} with dilation; enlarge the image or its padding"
        )
    check_parameters(x, values, bias, index)


@lru_cache(maxsize=256)
def _forward_plan(
    batch: int, channels: int, outputs: int, image: tuple[int, int], window: Window, itemsize: int
) -> conv_plan.Plan:
    return conv_plan.forward(_geometry(batch, channels, outputs, image, window), itemsize)


@lru_cache(maxsize=256)
def _backward_plan(
    batch: int, channels: int, outputs: int, image: tuple[int, int], window: Window, itemsize: int, fused: bool
) -> conv_plan.Plan:
    return conv_plan.backward(_geometry(batch, channels, outputs, image, window), itemsize, fused=fused)


def forget_plans() -> None:
    """Drop the plans that are kept for sizes seen before."""
    _forward_plan.cache_clear()
    _backward_plan.cache_clear()


def _geometry(batch: int, channels: int, outputs: int, image: tuple[int, int], window: Window) -> conv_plan.Geometry:
    result = window.result(*image)
    if window[:8] == (1, 1, 1, 1, 0, 0, 0, 0):
        # Pixels do not meet: one long row has no ragged ends.
        image = result = (1, image[0] * image[1])
    return conv_plan.Geometry(
        batch=batch,
        inputs=channels,
        outputs=outputs,
        groups=window.groups,
        image=image,
        kernel=(window.kernel_height, window.kernel_width),
        stride=(window.stride_height, window.stride_width),
        dilation=(window.dilation_height, window.dilation_width),
        padding=(window.top, window.left),
        result=result,
    )


def forward(x: Tensor, values: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
    """Compute the operator `sparse_conv2d`."""
    index, window = rest[:5], Window(*rest[5])
    if is_narrow(x):
        wide_bias = None if bias is None else bias.float()
        return forward(x.float(), values.float(), wide_bias, *rest).to(x.dtype)
    outputs = index[0].numel() - 1
    x = x.contiguous()
    batch, channels, height, width = x.shape
    plan = _forward_plan(batch, channels, outputs, (height, width), window, x.element_size())
    bias = x.new_zeros(outputs) if bias is None else bias.contiguous()
    result = x.new_empty(batch, outputs, *window.result(height, width))
    conv.multiply(plan, index[0], index[1], None, values.contiguous(), bias, x, result)
    return result


def grad_input(grad: Tensor, values: Tensor, height: int, width: int, *rest: Any) -> Tensor:
    """Compute the operator `sparse_conv2d_grad_input`."""
    index, window = rest[:5], Window(*rest[5])
    if is_narrow(grad):
        return grad_input(grad.float(), values.float(), height, width, *rest).to(grad.dtype)
    rows = index[2].numel() - 1
    channels = rows // (window.stride_height * window.stride_width)
    grad = grad.contiguous()
    sizes = (grad.shape[0], channels, index[0].numel() - 1, (height, width))
    plan = _backward_plan(*sizes, window, grad.element_size(), False)
    result = grad.new_empty(grad.shape[0], channels, height, width)
    conv.multiply(plan, index[2], index[3], index[4], values.contiguous(), grad.new_zeros(rows), grad, result)
    return result


def grad_values(grad: Tensor, x: Tensor, *rest: Any) -> Tensor:
    """Compute the operator `sparse_conv2d_grad_values`."""
    if is_narrow(grad):
        return grad_values(grad.float(), x.float(), *rest).to(grad.dtype)
    # The kernel reads values for the other gradient alone.
    return _gradients(grad, x, grad.new_empty(rest[1].numel()), None, rest)


def backward(grad: Tensor, x: Tensor, values: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    """Compute the operator `sparse_conv2d_backward`."""
    # Between forward and backward the values may have been exchanged for others, which no version counter shows.
    check(x, values, None, rest[:5], Window(*rest[5]))
    if is_narrow(grad):
        wide = backward(grad.float(), x.float(), values.float(), *rest)
        return wide[0].to(x.dtype), wide[1].to(values.dtype)
    grad_x = x.new_empty(x.shape)
    return grad_x, _gradients(grad, x, values, grad_x, rest)


def _gradients(grad: Tensor, x: Tensor, values: Tensor, grad_x: Tensor | None, rest: tuple[Any, ...]) -> Tensor:
    index, window = rest[:5], Window(*rest[5])
    grad, x = grad.contiguous(), x.contiguous()
    batch, channels, height, width = x.shape
    plan = _backward_plan(batch, channels, index[0].numel() - 1, (height, width), window, x.element_size(), True)
    if not plan.num_portions:
        return x.new_zeros(index[1].numel())
    grad_values = x.new_empty(index[1].numel())
    conv_backward.backward(plan, index[2], index[3], index[4], values.contiguous(), grad, x, grad_x, grad_values)
    return grad_values
