"""The way into and out of a product that knows no derivative, and the operators that compilers and tracers see.

Shapes: F = features in, O = outputs, P = outputs filled up to what the kernel takes at once, B = batch.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gossamer.kernels import block, cpu, fallback, fan_in, narrow
from gossamer.kernels.operands import is_autocast

_DTYPES = (torch.float32, torch.float64)
_REFUSAL = (
    "a derivative of a layer that accelerate made was asked for, and it is for inference alone: train the original "
    "model and accelerate it again, or call this one under torch.no_grad()"
)


def enter(inputs: Tensor, in_features: int, dtype: torch.dtype) -> Tensor:
    """Return inputs as the kernels take them.

    Args:
        inputs: shape [*, F], any strides.
        in_features: F.
        dtype: of the weight.

    Returns:
        Shape [F, B], contiguous; without a copy where the batch is the fast axis already.

    Raises:
        ValueError: another last axis, or another dtype outside of autocast.
    """
    check_inputs(inputs, in_features)
    if is_autocast(inputs):
        inputs = inputs.to(dtype)
    if inputs.dtype != dtype:
        raise ValueError(f"input is {inputs.dtype} but the weight is {dtype}; convert one, or use torch.autocast")
    if inputs.dim() != 2:
        inputs = inputs.reshape(math.prod(inputs.shape[:-1]), in_features)
    x_FB = inputs.t()
    if x_FB.is_contiguous():
        return x_FB
    # Our own copy is no part of a graph, and a graph must reach the layer for `backward` to refuse.
    ours = inputs.is_contiguous() and not _wants_derivative(inputs) and _is_plain(inputs)
    return cpu.transpose(inputs) if ours else x_FB.contiguous()


def check_inputs(inputs: Tensor, in_features: int) -> None:
    """Raise ValueError unless the last axis of the inputs is what a layer takes."""
    if inputs.shape[-1:] != (in_features,):
        raise ValueError(f"input has shape {tuple(inputs.shape)}; its last axis must be in_features = {in_features}")


def leave(y_PB: Tensor, shape: Sequence[int], out_features: int) -> Tensor:
    """Return what a kernel wrote as the user's tensor.

    Args:
        y_PB: shape [P, B].
        shape: of the inputs, [*, F].
        out_features: O; what was filled up is cut off.

    Returns:
        Shape [*, O]; a view with strides (1, B) where that is a matrix.
    """
    outputs = y_PB.t()
    if outputs.shape[1] != out_features:
        outputs = outputs[:, :out_features]
    return outputs if len(shape) == 2 else outputs.reshape(*shape[:-1], out_features)


def block_linear(
    x_FB: Tensor, values: Tensor, columns: Tensor, pointers: Tensor, bias: Tensor, shape: tuple[int, int]
) -> Tensor:
    """Return W x + b for a weight in blocks, shape [P, B]; arguments as `block.multiply` has them."""
    if _is_plain(x_FB):
        return _eager(_block_cpu, x_FB, values, columns, pointers, bias, *shape)
    result: Tensor = torch.ops.gossamer.block_linear(x_FB, values, columns, pointers, bias, *shape)
    return result


def fan_in_linear(x_FB: Tensor, values: Tensor, indices: Tensor, bias: Tensor) -> Tensor:
    """Return W x + b for a weight of constant fan-in, shape [P, B]; arguments as `fan_in.multiply` has them."""
    if _is_plain(x_FB):
        return _eager(_fan_in_cpu, x_FB, values, indices, bias)
    result: Tensor = torch.ops.gossamer.fan_in_linear(x_FB, values, indices, bias)
    return result


def narrow_linear(
    x_FB: Tensor, pointers: Tensor, indices: Tensor, values: Tensor, scales: Tensor | None, bias: Tensor
) -> Tensor:
    """Return W x + b for narrow values or places, shape [O, B]; arguments as `narrow.multiply` has them."""
    if _is_plain(x_FB):
        return _eager(_narrow_cpu, x_FB, pointers, indices, values, scales, bias)
    result: Tensor = torch.ops.gossamer.narrow_linear(x_FB, pointers, indices, values, scales, bias)
    return result


def block_entries(columns: Tensor, pointers: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return row and column of each value in blocks, int64, shape [blocks * r * c]; rows go up to P."""
    rows, width = shape
    device = columns.device
    block_rows = torch.repeat_interleave(pointers.diff().long(), output_size=columns.numel())
    row = (block_rows * rows)[:, None, None] + torch.arange(rows, device=device)
    column = columns.long()[:, None, None] + torch.arange(width, device=device)[:, None]
    whole = (columns.numel(), width, rows)
    return row.expand(whole).flatten(), column.expand(whole).flatten()


def fan_in_entries(indices: Tensor) -> tuple[Tensor, Tensor]:
    """Return row and column of each value of constant fan-in, int64, shape [G * k * LANES]; rows go up to P."""
    groups, _, lanes = indices.shape
    row = torch.arange(groups * lanes, device=indices.device).view(groups, 1, lanes)
    return row.expand(indices.shape).flatten(), indices.long().flatten()


def _block_cpu(
    x: Tensor, values: Tensor, columns: Tensor, pointers: Tensor, bias: Tensor, rows: int, width: int
) -> Tensor:
    if x.dtype not in _DTYPES:
        return _block_plain(x, values, columns, pointers, bias, rows, width)
    x = x.contiguous()
    result = x.new_empty(bias.numel(), x.shape[1])
    block.multiply(pointers, columns, values, bias, x, result, shape=(rows, width))
    return result


def _block_plain(
    x: Tensor, values: Tensor, columns: Tensor, pointers: Tensor, bias: Tensor, rows: int, width: int
) -> Tensor:
    places = block_entries(columns, pointers, (rows, width))
    return fallback.multiply(*places, values, x, bias.numel()) + bias[:, None]


def _fan_in_cpu(x: Tensor, values: Tensor, indices: Tensor, bias: Tensor) -> Tensor:
    if x.dtype not in _DTYPES:
        return _fan_in_plain(x, values, indices, bias)
    x = x.contiguous()
    result = x.new_empty(bias.numel(), x.shape[1])
    fan_in.multiply(indices, values, bias, x, result)
    return result


def _fan_in_plain(x: Tensor, values: Tensor, indices: Tensor, bias: Tensor) -> Tensor:
    return fallback.multiply(*fan_in_entries(indices), values.flatten(), x, bias.numel()) + bias[:, None]


def _narrow_cpu(
    x: Tensor, pointers: Tensor, indices: Tensor, values: Tensor, scales: Tensor | None, bias: Tensor
) -> Tensor:
    if not narrow.takes(x, values, scales, bias):
        return _narrow_plain(x, pointers, indices, values, scales, bias)
    x = x.contiguous()
    result = x.new_empty(bias.numel(), x.shape[1])
    narrow.multiply(pointers, indices, values, scales, bias, x, result)
    return result


def _narrow_plain(
    x: Tensor, pointers: Tensor, indices: Tensor, values: Tensor, scales: Tensor | None, bias: Tensor
) -> Tensor:
    rows = torch.repeat_interleave(pointers.diff().long(), output_size=indices.numel())
    sums = fallback.multiply(rows, indices.long(), values.to(x.dtype), x, bias.numel())
    return (sums if scales is None else scales[:, None] * sums) + bias[:, None]


def _is_plain(x: Tensor) -> bool:
    """Whether it lies on the CPU and nothing looks on: no compiler, no tracer, no transform."""
    return (
        type(x) is Tensor
        and x.is_cpu
        and x.dtype in _DTYPES
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[no-untyped-call, attr-defined]
        and not torch._C._len_torch_dispatch_stack()
        and not torch._C._are_functorch_transforms_active()
    )


def _wants_derivative(x: Tensor) -> bool:
    return x.requires_grad and torch.is_grad_enabled()


def _eager(kernel: Any, x: Tensor, *parts: Any) -> Tensor:
    """Run a kernel without the cost of a registered operator; where a derivative may be asked for, refuse it then."""
    if not _wants_derivative(x):
        return kernel(x, *parts)  # type: ignore[no-any-return]
    result: Tensor = _WithoutDerivative.apply(x, kernel, *parts)  # type: ignore[no-untyped-call]
    return result


class _WithoutDerivative(torch.autograd.Function):
    """A model that is run outside of no_grad must not fail for that; only `backward` does."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Any, *parts: Any) -> Tensor:
        return kernel(x, *parts)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> None:
        raise RuntimeError(_REFUSAL)


def _refuse(ctx: Any, grad: Tensor) -> None:
    raise RuntimeError(_REFUSAL)


def _fake(x: Tensor, *parts: Any) -> Tensor:
    bias: Tensor = next(part for part in reversed(parts) if isinstance(part, Tensor))
    return x.new_empty(bias.shape[0], x.shape[1])


def _register(name: str, arguments: str, on_cpu: Any, anywhere: Any) -> None:
    full = f"gossamer::{name}"
    torch.library.define(full, f"({arguments}) -> Tensor")
    torch.library.impl(full, "CPU", on_cpu)
    torch.library.impl(full, "CUDA", anywhere)
    torch.library.register_fake(full, _fake)
    torch.library.register_autograd(full, _refuse)


_register(
    "block_linear",
    "Tensor x, Tensor values, Tensor columns, Tensor pointers, Tensor bias, int rows, int width",
    _block_cpu,
    _block_plain,
)
_register("fan_in_linear", "Tensor x, Tensor values, Tensor indices, Tensor bias", _fan_in_cpu, _fan_in_plain)
_register(
    "narrow_linear",
    "Tensor x, Tensor pointers, Tensor indices, Tensor values, Tensor? scales, Tensor bias",
    _narrow_cpu,
    _narrow_plain,
)
