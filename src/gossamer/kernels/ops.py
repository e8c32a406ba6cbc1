"""The sparse products as registered operators: eager, autograd to any order, torch.compile and torch.export.

Shapes: F = features in, O = features out, B = batch, K = active weights. Batch is the last axis: [features, batch].
Every operator takes the topology as five index tensors: row_pointers [O + 1], column_indices [K] (CSR) and
column_pointers [F + 1], row_indices [K], permutation [K] (its transpose, see `topology.Transpose`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gossamer.kernels import fallback, gpu_ops, on_cpu
from gossamer.kernels.operands import Index, check

_INDEX = "Tensor row_pointers, Tensor column_indices, Tensor column_pointers, Tensor row_indices, Tensor permutation"
_SCHEMAS = {
    "sparse_linear": f"(Tensor x, Tensor values, Tensor? bias, {_INDEX}) -> Tensor",
    "sparse_linear_backward": f"(Tensor grad, Tensor x, Tensor values, {_INDEX}) -> (Tensor, Tensor)",
    "sparse_linear_grad_input": f"(Tensor grad, Tensor values, {_INDEX}) -> Tensor",
    "sparse_linear_grad_values": f"(Tensor grad, Tensor x, {_INDEX}) -> Tensor",
}


def sparse_linear(x_FB: Tensor, values: Tensor, bias: Tensor | None, index: Index) -> Tensor:
    """Multiply a sparse weight with a feature-major batch and add the bias: y = W x + b.

    Args:
        x_FB: shape [F, B], float32 or float64; float16 and bfloat16 are computed in float32.
        values: the active weights in the order of the rows, shape [K], dtype of x.
        bias: shape [O], dtype of x, or None.
        index: row_pointers, column_indices, column_pointers, row_indices, permutation.

    Returns:
        Shape [O, B], contiguous, dtype of x.

    Raises:
        ValueError: dtypes differ, or a shape does not fit the topology.

    Cost: 2 K B floating-point operations forward, 4 K B backward; no temporary beside the results.
    """
    check(x_FB, values, bias, index)
    result: Tensor = torch.ops.gossamer.sparse_linear(x_FB, values, bias, *index)
    return result


def plain(x: Tensor, values: Tensor, bias: Tensor | None, *index: Tensor) -> Tensor:
    """Compute `sparse_linear` in plain PyTorch, which every device and every transform of functions understands."""
    rows, columns = _coordinates(index)
    result = fallback.multiply(rows, columns, values, x, index[0].numel() - 1)
    return result if bias is None else result + bias[:, None]


def _grad_input_any(grad: Tensor, values: Tensor, *index: Tensor) -> Tensor:
    rows, columns = _coordinates(index)
    return fallback.multiply(columns, rows, values, grad, index[2].numel() - 1)


def _grad_values_any(grad: Tensor, x: Tensor, *index: Tensor) -> Tensor:
    return fallback.sample(*_coordinates(index), grad, x)


def _backward_any(grad: Tensor, x: Tensor, values: Tensor, *index: Tensor) -> tuple[Tensor, Tensor]:
    return _grad_input_any(grad, values, *index), _grad_values_any(grad, x, *index)


def _coordinates(index: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    columns = index[1].long()
    return torch.repeat_interleave(index[0].diff().long(), output_size=columns.numel()), columns


# Derivatives. All four products are linear in each argument, so each one's derivative is made of the others and
# any order of differentiation is covered.


def _save_forward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, values, bias, *index = inputs
    ctx.has_bias = bias is not None
    ctx.save_for_backward(x, values, *index)


def _forward_derivative(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, values, *index = ctx.saved_tensors
    return derivative(ctx, grad, x, values, index)


def derivative(ctx: Any, grad: Tensor, x: Tensor, values: Tensor, index: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    """Return the gradients of `sparse_linear` that its autograd context asks for, None for the others.

    Args:
        ctx: has `needs_input_grad` and `has_bias`.
        grad: gradient of the result, shape [O, B].
        x: input of the forward pass, shape [F, B].
        values: the active weights, shape [K].
        index: the topology.
    """
    ops = torch.ops.gossamer
    needs_x, needs_values, needs_bias = ctx.needs_input_grad[:3]
    grad_x = grad_values = None
    if needs_x and needs_values:
        grad_x, grad_values = ops.sparse_linear_backward(grad, x, values, *index)
    elif needs_x:
        grad_x = ops.sparse_linear_grad_input(grad, values, *index)
    elif needs_values:
        grad_values = ops.sparse_linear_grad_values(grad, x, *index)
    grad_bias = grad.sum(1) if ctx.has_bias and needs_bias else None
    return grad_x, grad_values, grad_bias, *(None,) * 5


def _save_all(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _backward_derivative(ctx: Any, to_x: Tensor, to_values: Tensor) -> tuple[Tensor | None, ...]:
    grad, x, values, *index = ctx.saved_tensors
    ops = torch.ops.gossamer
    d_grad = ops.sparse_linear(to_x, values, None, *index) + ops.sparse_linear(x, to_values, None, *index)
    d_x = ops.sparse_linear_grad_input(grad, to_values, *index)
    d_values = ops.sparse_linear_grad_values(grad, to_x, *index)
    return d_grad, d_x, d_values, *(None,) * 5


def _grad_input_derivative(ctx: Any, to_x: Tensor) -> tuple[Tensor | None, ...]:
    grad, values, *index = ctx.saved_tensors
    ops = torch.ops.gossamer
    d_values = ops.sparse_linear_grad_values(grad, to_x, *index)
    return ops.sparse_linear(to_x, values, None, *index), d_values, *(None,) * 5


def _grad_values_derivative(ctx: Any, to_values: Tensor) -> tuple[Tensor | None, ...]:
    grad, x, *index = ctx.saved_tensors
    ops = torch.ops.gossamer
    d_grad = ops.sparse_linear(x, to_values, None, *index)
    return d_grad, ops.sparse_linear_grad_input(grad, to_values, *index), *(None,) * 5


def _forward_fake(x: Tensor, values: Tensor, bias: Tensor | None, *index: Tensor) -> Tensor:
    return x.new_empty(index[0].shape[0] - 1, x.shape[1])


def _backward_fake(grad: Tensor, x: Tensor, values: Tensor, *index: Tensor) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), values.new_empty(values.shape)


def _grad_input_fake(grad: Tensor, values: Tensor, *index: Tensor) -> Tensor:
    return grad.new_empty(index[2].shape[0] - 1, grad.shape[1])


def _grad_values_fake(grad: Tensor, x: Tensor, *index: Tensor) -> Tensor:
    return x.new_empty(index[1].shape[0])


def _register(
    name: str,
    on_cpu: Callable[..., Any],
    on_gpu: Callable[..., Any],
    fake: Callable[..., Any],
    derivative: Callable[..., Any],
    save: Callable[..., Any],
) -> None:
    full = f"gossamer::{name}"
    torch.library.define(full, _SCHEMAS[name])
    torch.library.impl(full, "CPU", on_cpu)
    torch.library.impl(full, "CUDA", on_gpu)
    torch.library.register_fake(full, fake)
    torch.library.register_autograd(full, derivative, setup_context=save)


def _backward_gpu(grad: Tensor, x: Tensor, values: Tensor, *index: Tensor) -> tuple[Tensor, Tensor]:
    # As on the CPU: exchanged values would have the kernel read past their end.
    check(x, values, None, index)
    return gpu_ops.backward(grad, x, values, *index)


_HAS_TRITON = gpu_ops.HAS_TRITON

_register(
    "sparse_linear",
    on_cpu.forward,
    gpu_ops.sparse_linear if _HAS_TRITON else plain,
    _forward_fake,
    _forward_derivative,
    _save_forward,
)
_register(
    "sparse_linear_backward",
    on_cpu.backward,
    _backward_gpu if _HAS_TRITON else _backward_any,
    _backward_fake,
    _backward_derivative,
    _save_all,
)
_register(
    "sparse_linear_grad_input",
    on_cpu.grad_input,
    gpu_ops.grad_input if _HAS_TRITON else _grad_input_any,
    _grad_input_fake,
    _grad_input_derivative,
    _save_all,
)
_register(
    "sparse_linear_grad_values",
    on_cpu.grad_values,
    gpu_ops.grad_values if _HAS_TRITON else _grad_values_any,
    _grad_values_fake,
    _grad_values_derivative,
    _save_all,
)
