"""The sparse linear map, batch first: the short way for eager execution, the registered operators for everything else.

A registered operator costs some sixty microseconds of Python in each direction, as much as a small product itself. A
plain autograd function around the same kernels costs a third of that.
"""

from typing import Any

import torch
from torch import Tensor, nn

from gossamer.kernels import buffers, cpu, on_cpu, ops
from gossamer.kernels.operands import Index, check

_PLAIN = (Tensor, nn.Parameter)
_DTYPES = (torch.float32, torch.float64)


def linear(inputs_BF: Tensor, values: Tensor, bias: Tensor | None, index: Index) -> Tensor:
    """Apply y = x W^T + b for a sparse weight.

    Args:
        inputs_BF: shape [B, F], any strides; without a copy where the batch is the fast axis, as in a result.
        values: the active weights in the order of the rows, shape [K], dtype of the inputs.
        bias: shape [O], dtype of the inputs, or None.
        index: row_pointers, column_indices, column_pointers, row_indices, permutation.

    Returns:
        Shape [B, O], strides (1, B), dtype of the inputs.

    Raises:
        ValueError: dtypes differ, or a shape does not fit the topology.
    """
    if torch._C._are_functorch_transforms_active():  # which take neither registered derivatives nor our function
        check(inputs_BF.t(), values, bias, index)
        return ops.plain(inputs_BF.t(), values, bias, *index).t()
    x_FB = feature_major(inputs_BF)
    if not is_plain(x_FB, values):
        return ops.sparse_linear(x_FB, values, bias, index).t()
    check(x_FB, values, bias, index)
    if not torch.is_grad_enabled():
        return product(x_FB, values, bias, index)
    result: Tensor = _Linear.apply(x_FB, values, bias, index)  # type: ignore[no-untyped-call]
    return result


def feature_major(inputs_BF: Tensor) -> Tensor:
    """Return [B, F] as [F, B] without gaps: a view where it lies so already."""
    x_FB = inputs_BF.t()
    if x_FB.is_contiguous():
        return x_FB
    if inputs_BF.is_contiguous() and not inputs_BF.requires_grad and is_plain(inputs_BF):
        return cpu.transpose(inputs_BF)
    return x_FB.contiguous()


def is_plain(*tensors: Tensor) -> bool:
    """Whether these lie on the CPU and nothing looks on: no compiler, no tracer, no mode that sees operators."""
    for part in tensors:
        if type(part) not in _PLAIN or not part.is_cpu or part.dtype not in _DTYPES:
            return False
    # The compiler first: it knows the answer, and cannot trace the other questions.
    return not (
        torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() or torch.jit.is_tracing()  # type: ignore[no-untyped-call, attr-defined]
    )


def product(
    x_FB: Tensor, values: Tensor, bias: Tensor | None, index: Index, *, relu: bool = False, stays: bool = False
) -> Tensor:
    """Return W x + b, or relu(W x + b), shape [B, O], strides (1, B); `stays`: it never leaves the library."""
    outputs, batch = index[0].numel() - 1, x_FB.shape[1]
    make = buffers.results if stays else _results
    y_BO = make(outputs, batch, x_FB.dtype)
    bias = x_FB.new_zeros(outputs) if bias is None else bias.contiguous()
    cpu.multiply(index[0], index[1], values.contiguous(), bias, x_FB, y_BO, transposed=index[2:], relu=relu)
    return y_BO


def _results(features: int, batch: int, dtype: torch.dtype) -> Tensor:
    return torch.empty_strided((batch, features), (1, batch), dtype=dtype, device="cpu")


class _Linear(torch.autograd.Function):
    """Feature-major input, batch-major result: it must not be a view, which could not be changed in place later."""

    @staticmethod
    def forward(ctx: Any, x_FB: Tensor, values: Tensor, bias: Tensor | None, index: Index) -> Tensor:
        ctx.has_bias = bias is not None
        # Handed over as one object: seven tensors that are saved one by one cost ten microseconds.
        ctx.index = index
        ctx.save_for_backward(x_FB, values)
        return product(x_FB, values, bias, index)

    @staticmethod
    def backward(ctx: Any, grad_BO: Tensor) -> tuple[Tensor | None, ...]:
        x_FB, values = ctx.saved_tensors
        grad_OB = grad_BO.t()
        if torch.is_grad_enabled() or not is_plain(grad_BO):
            return ops.derivative(ctx, grad_OB, x_FB, values, ctx.index)[:4]
        needs_x, needs_values, needs_bias, _ = ctx.needs_input_grad
        needs = (needs_x, needs_values, ctx.has_bias and needs_bias)
        return *on_cpu.gradients(grad_OB, x_FB, values, ctx.index, needs=needs), None
