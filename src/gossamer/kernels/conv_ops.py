"""Sparse convolutions as registered operators: eager, autograd to any order, torch.compile and torch.export.

Shapes: N = batch, C = channels in, O = channels out, H x W = image, K = active weights.
Every operator takes the topology as five index tensors: row_pointers [O + 1] and column_indices [K], CSR over the
matrix [O, C / groups * places of the kernel]; channel_pointers, channel_indices [K] and permutation [K], see
`by_channel`.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from gossamer import topology
from gossamer.kernels import conv, conv_backward, conv_fallback, conv_plan
from gossamer.kernels.conv_fallback import Window
from gossamer.topology import Topology

_INDEX = (
    "Tensor row_pointers, Tensor column_indices, Tensor channel_pointers, Tensor channel_indices, Tensor permutation, "
    "int[] window"
)
_SCHEMAS = {
    "sparse_conv2d": f"(Tensor x, Tensor values, Tensor? bias, {_INDEX}) -> Tensor",
    "sparse_conv2d_backward": f"(Tensor grad, Tensor x, Tensor values, {_INDEX}) -> (Tensor, Tensor)",
    "sparse_conv2d_grad_input": f"(Tensor grad, Tensor values, SymInt height, SymInt width, {_INDEX}) -> Tensor",
    "sparse_conv2d_grad_values": f"(Tensor grad, Tensor x, {_INDEX}) -> Tensor",
}
Index = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


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
    outputs = index[0].numel() - 1
    channels = (index[2].numel() - 1) // (window.stride_height * window.stride_width)
    if x.dim() != 4 or x.shape[1] != channels:
        raise ValueError(f"input has shape {tuple(x.shape)}, the weight takes [batch, {channels}, height, width]")
    if min(window.result(x.shape[2], x.shape[3])) < 1:
        raise ValueError(
            f"an image of {x.shape[2]} x {x.shape[3]} is smaller than the kernel, {window.kernel_height} x "
            f"{window.kernel_width} with dilation; enlarge the image or its padding"
        )
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


def forward_cpu(x: Tensor, values: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
    """Compute the operator `sparse_conv2d` on the CPU."""
    index, window = rest[:5], Window(*rest[5])
    if _is_narrow(x):
        wide_bias = None if bias is None else bias.float()
        return forward_cpu(x.float(), values.float(), wide_bias, *rest).to(x.dtype)
    outputs = index[0].numel() - 1
    x = x.contiguous()
    batch, channels, height, width = x.shape
    plan = _forward_plan(batch, channels, outputs, (height, width), window, x.element_size())
    bias = x.new_zeros(outputs) if bias is None else bias.contiguous()
    result = x.new_empty(batch, outputs, *window.result(height, width))
    conv.multiply(plan, index[0], index[1], None, values.contiguous(), bias, x, result)
    return result


def grad_input_cpu(grad: Tensor, values: Tensor, height: int, width: int, *rest: Any) -> Tensor:
    """Compute the operator `sparse_conv2d_grad_input` on the CPU."""
    index, window = rest[:5], Window(*rest[5])
    if _is_narrow(grad):
        return grad_input_cpu(grad.float(), values.float(), height, width, *rest).to(grad.dtype)
    rows = index[2].numel() - 1
    channels = rows // (window.stride_height * window.stride_width)
    grad = grad.contiguous()
    sizes = (grad.shape[0], channels, index[0].numel() - 1, (height, width))
    plan = _backward_plan(*sizes, window, grad.element_size(), False)
    result = grad.new_empty(grad.shape[0], channels, height, width)
    conv.multiply(plan, index[2], index[3], index[4], values.contiguous(), grad.new_zeros(rows), grad, result)
    return result


def grad_values_cpu(grad: Tensor, x: Tensor, *rest: Any) -> Tensor:
    """Compute the operator `sparse_conv2d_grad_values` on the CPU."""
    if _is_narrow(grad):
        return grad_values_cpu(grad.float(), x.float(), *rest).to(grad.dtype)
    # The kernel reads values for the other gradient alone.
    return _gradients(grad, x, grad.new_empty(rest[1].numel()), None, rest)


def backward_cpu(grad: Tensor, x: Tensor, values: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    """Compute the operator `sparse_conv2d_backward` on the CPU."""
    # Between forward and backward the values may have been exchanged for others, which no version counter shows.
    check(x, values, None, rest[:5], Window(*rest[5]))
    if _is_narrow(grad):
        wide = backward_cpu(grad.float(), x.float(), values.float(), *rest)
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


def _is_narrow(tensor: Tensor) -> bool:
    return tensor.dtype in (torch.float16, torch.bfloat16)


def plain(x: Tensor, values: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
    """Compute `sparse_conv2d` in plain PyTorch, which every device and every transform of functions understands."""
    return conv_fallback.multiply(x, values, bias, rest[0], rest[1], Window(*rest[5]))


def _grad_input_any(grad: Tensor, values: Tensor, height: int, width: int, *rest: Any) -> Tensor:
    window = Window(*rest[5])
    channels = (rest[2].numel() - 1) // (window.stride_height * window.stride_width)
    return conv_fallback.grad_input(grad, values, rest[0], rest[1], [grad.shape[0], channels, height, width], window)


def _grad_values_any(grad: Tensor, x: Tensor, *rest: Any) -> Tensor:
    return conv_fallback.grad_values(grad, x, rest[0], rest[1], Window(*rest[5]))


def _backward_any(grad: Tensor, x: Tensor, values: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return _grad_input_any(grad, values, x.shape[2], x.shape[3], *rest), _grad_values_any(grad, x, *rest)


# Derivatives. All four are linear in each argument, so each one's derivative is made of the others.

_NONE = (None,) * 6


def _save_forward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, values, bias, *index, ctx.window = inputs
    ctx.has_bias = bias is not None
    ctx.save_for_backward(x, values, *index)


def _forward_derivative(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, values, *index = ctx.saved_tensors
    ops = torch.ops.gossamer
    products = (ops.sparse_conv2d_backward, ops.sparse_conv2d_grad_input, ops.sparse_conv2d_grad_values)
    return derivative(ctx, grad, x, values, (*index, ctx.window), products)


def derivative(
    ctx: Any,
    grad: Tensor,
    x: Tensor,
    values: Tensor,
    rest: tuple[Any, ...],
    products: tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]],
) -> tuple[Tensor | None, ...]:
    """Return the gradients of `sparse_conv2d` that its autograd context asks for, None for the others.

    Args:
        ctx: has `needs_input_grad` and `has_bias`.
        grad: gradient of the result.
        x: input of the forward pass.
        values: the active weights, shape [K].
        rest: the five index tensors and the window.
        products: what computes both gradients, that of the input and that of the values.
    """
    needs_x, needs_values, needs_bias = ctx.needs_input_grad[:3]
    grad_x = grad_values = None
    if needs_x and needs_values:
        grad_x, grad_values = products[0](grad, x, values, *rest)
    elif needs_x:
        grad_x = products[1](grad, values, x.shape[2], x.shape[3], *rest)
    elif needs_values:
        grad_values = products[2](grad, x, *rest)
    grad_bias = grad.sum((0, 2, 3)) if ctx.has_bias and needs_bias else None
    return grad_x, grad_values, grad_bias, *_NONE


def _save_all(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, ctx.window = inputs
    ctx.save_for_backward(*(part for part in tensors if isinstance(part, Tensor)))


def _backward_derivative(ctx: Any, to_x: Tensor, to_values: Tensor) -> tuple[Tensor | None, ...]:
    grad, x, values, *index = ctx.saved_tensors
    rest = (*index, ctx.window)
    ops = torch.ops.gossamer
    d_grad = ops.sparse_conv2d(to_x, values, None, *rest) + ops.sparse_conv2d(x, to_values, None, *rest)
    d_x = ops.sparse_conv2d_grad_input(grad, to_values, x.shape[2], x.shape[3], *rest)
    return d_grad, d_x, ops.sparse_conv2d_grad_values(grad, to_x, *rest), *_NONE


def _grad_input_derivative(ctx: Any, to_x: Tensor) -> tuple[Tensor | None, ...]:
    grad, values, *index = ctx.saved_tensors
    rest = (*index, ctx.window)
    ops = torch.ops.gossamer
    d_grad = ops.sparse_conv2d(to_x, values, None, *rest)
    return d_grad, ops.sparse_conv2d_grad_values(grad, to_x, *rest), None, None, *_NONE


def _grad_values_derivative(ctx: Any, to_values: Tensor) -> tuple[Tensor | None, ...]:
    grad, x, *index = ctx.saved_tensors
    rest = (*index, ctx.window)
    ops = torch.ops.gossamer
    d_grad = ops.sparse_conv2d(x, to_values, None, *rest)
    return d_grad, ops.sparse_conv2d_grad_input(grad, to_values, x.shape[2], x.shape[3], *rest), *_NONE


def _forward_fake(x: Tensor, values: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
    size = Window(*rest[5]).result(x.shape[2], x.shape[3])
    return x.new_empty(x.shape[0], rest[0].shape[0] - 1, *size)


def _backward_fake(grad: Tensor, x: Tensor, values: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), values.new_empty(values.shape)


def _grad_input_fake(grad: Tensor, values: Tensor, height: int, width: int, *rest: Any) -> Tensor:
    window = Window(*rest[5])
    channels = (rest[2].shape[0] - 1) // (window.stride_height * window.stride_width)
    return grad.new_empty(grad.shape[0], channels, height, width)


def _grad_values_fake(grad: Tensor, x: Tensor, *rest: Any) -> Tensor:
    return x.new_empty(rest[1].shape[0])


def _register(name: str, on_cpu: Any, anywhere: Any, fake: Any, derivative: Any, save: Any) -> None:
    full = f"gossamer::{name}"
    torch.library.define(full, _SCHEMAS[name])
    torch.library.impl(full, "CPU", on_cpu)
    torch.library.impl(full, "CUDA", anywhere)
    torch.library.register_fake(full, fake)
    torch.library.register_autograd(full, derivative, setup_context=save)


_register("sparse_conv2d", forward_cpu, plain, _forward_fake, _forward_derivative, _save_forward)
_register("sparse_conv2d_backward", backward_cpu, _backward_any, _backward_fake, _backward_derivative, _save_all)
_register(
    "sparse_conv2d_grad_input", grad_input_cpu, _grad_input_any, _grad_input_fake, _grad_input_derivative, _save_all
)
_register(
    "sparse_conv2d_grad_values",
    grad_values_cpu,
    _grad_values_any,
    _grad_values_fake,
    _grad_values_derivative,
    _save_all,
)
