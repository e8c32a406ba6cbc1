"""The sparse convolution: the short way for eager execution, the registered operators for everything else."""

from typing import Any

import torch
from torch import Tensor

from gossamer.kernels import conv_on_cpu, conv_ops
from gossamer.kernels.conv_fallback import Window
from gossamer.kernels.eager import is_plain
from gossamer.kernels.operands import Index

_ON_CPU = (conv_on_cpu.backward, conv_on_cpu.grad_input, conv_on_cpu.grad_values)


def conv2d(inputs: Tensor, values: Tensor, bias: Tensor | None, index: Index, window: Window) -> Tensor:
    """Convolve images with a sparse weight and add the bias.

    Args:
        inputs: shape [N, C, H, W], float32 or float64; float16 and bfloat16 are computed in float32.
        values: the active weights in the order of the rows, shape [K], dtype of the inputs.
        bias: shape [O], dtype of the inputs, or None.
        index: row_pointers, column_indices, channel_pointers, channel_indices, permutation.
        window: kernel, stride, padding, dilation and groups.

    Returns:
        Shape [N, O, height, width], contiguous, dtype of the inputs.

    Raises:
        ValueError: dtypes differ, a shape does not fit the topology, or the image is smaller than the kernel.
    """
    conv_on_cpu.check(inputs, values, bias, index, window)
    if torch._C._are_functorch_transforms_active():  # which take neither registered derivatives nor our function
        return conv_ops.plain(inputs, values, bias, *index, window)
    if not is_plain(inputs, values):
        result: Tensor = torch.ops.gossamer.sparse_conv2d(inputs, values, bias, *index, window)
        return result
    result = _Conv2d.apply(inputs, values, bias, *index, window)  # type: ignore[no-untyped-call]
    return result


class _Conv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
        ctx.has_bias = bias is not None
        ctx.window = rest[5]
        ctx.save_for_backward(x, values, *rest[:5])
        return conv_on_cpu.forward(x, values, bias, *rest)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, values, *index = ctx.saved_tensors
        ops = torch.ops.gossamer
        registered = (ops.sparse_conv2d_backward, ops.sparse_conv2d_grad_input, ops.sparse_conv2d_grad_values)
        products = registered if torch.is_grad_enabled() or not is_plain(grad) else _ON_CPU
        return conv_ops.derivative(ctx, grad, x, values, (*index, ctx.window), products)
