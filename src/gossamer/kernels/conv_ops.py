"""Sparse convolutions as registered operators: eager, autograd to any order, torch.compile and torch.export.

Shapes: N = batch, C = channels in, O = channels out, H x W = image, K = active weights.
Every operator takes the topology as five index tensors: row_pointers [O + 1] and column_indices [K], CSR over the
matrix [O, C / groups * places of the kernel]; channel_pointers, channel_indices [K] and permutation [K], see
`conv_on_cpu.by_channel`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gossamer.kernels import conv_fallback, conv_on_cpu
from gossamer.kernels.conv_fallback import Window

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


_register("sparse_conv2d", conv_on_cpu.forward, plain, _forward_fake, _forward_derivative, _save_forward)
_register(
    "sparse_conv2d_backward", conv_on_cpu.backward, _backward_any, _backward_fake, _backward_derivative, _save_all
)
_register(
    "sparse_conv2d_grad_input",
    conv_on_cpu.grad_input,
    _grad_input_any,
    _grad_input_fake,
    _grad_input_derivative,
    _save_all,
)
_register(
    "sparse_conv2d_grad_values",
    conv_on_cpu.grad_values,
    _grad_values_any,
    _grad_values_fake,
    _grad_values_derivative,
    _save_all,
)
