"""The one autograd function of activations and dropout: one pass each way, whatever lies how in memory."""

from typing import Any

import torch
from torch import Tensor, nn

from gossamer.kernels import activation
from gossamer.kernels.activation import Activation

_DTYPES = (torch.float32, torch.float64)


def activate(inputs: Tensor, *, slope: float, dropout: float, inplace: bool = False) -> Tensor:
    """Give negative inputs a slope, then zero some at random and divide the others by 1 - dropout.

    Args:
        inputs: shape [*].
        slope: factor of what is not above zero; 0: ReLU, 1: no activation.
        dropout: probability, in [0, 1); which ones follows from one number of torch's global generator.
        inplace: whether the inputs may be overwritten.

    Returns:
        Shape, strides and dtype of the inputs.
    """
    if dropout and _is_plain(inputs):
        what = Activation(slope=slope, probability=dropout, seed=draw_seed())
        result: Tensor = _Activate.apply(inputs, what)  # type: ignore[no-untyped-call]
        return result
    # Alone, an activation is no faster in a kernel of ours.
    bent = nn.functional.relu(inputs, inplace) if slope == 0 else nn.functional.leaky_relu(inputs, slope, inplace)
    return nn.functional.dropout(bent, dropout) if dropout else bent


def draw_seed() -> int:
    """Draw from torch's global generator which numbers dropout zeroes."""
    return int(torch.randint(2**63 - 1, ()))


def check_dropout(probability: float) -> float:
    """Return the probability, or raise ValueError: it lies outside [0, 1)."""
    if not 0.0 <= probability < 1.0:
        raise ValueError(
            f"dropout must lie in [0, 1), got {probability}; it is the fraction of the values that become zero"
        )
    return probability


def _is_plain(inputs: Tensor) -> bool:
    """Whether this lies on the CPU and nothing looks on: no compiler, no tracer, no transform, no mode."""
    return (
        not torch.compiler.is_compiling()
        and type(inputs) in (Tensor, nn.Parameter)
        and inputs.is_cpu
        and inputs.dtype in _DTYPES
        and not torch.jit.is_tracing()  # type: ignore[no-untyped-call, attr-defined]
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._len_torch_dispatch_stack()
    )


def _dense(tensor: Tensor) -> Tensor:
    """Without gaps in memory; a transposed matrix, such as a sparse layer returns, stays as it is."""
    transposed = tensor.dim() == 2 and tensor.t().is_contiguous()
    return tensor if transposed else tensor.contiguous()


class _Activate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, what: Activation) -> Tensor:
        ctx.what = what
        given = _dense(inputs)
        result = activation.apply(given, what)
        # A ReLU's derivative can be read off its result, and what follows is likely to keep that alive anyway.
        ctx.save_for_backward(result if what.slope == 0 else given)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (numbers,) = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return _slope(grad, numbers, ctx.what), None
        result: Tensor = _Slope.apply(grad, numbers, ctx.what)  # type: ignore[no-untyped-call]
        return result, None


def _slope(grad: Tensor, numbers: Tensor, what: Activation) -> Tensor:
    if not activation.fits(grad, numbers):
        grad = torch.empty_like(numbers).copy_(grad)
    return activation.gradient(grad, numbers, what)


class _Slope(torch.autograd.Function):
    """The derivative of `_Activate`: linear in the gradient, so its own derivative is itself."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, numbers: Tensor, what: Activation) -> Tensor:
        ctx.what = what
        ctx.save_for_backward(numbers)
        return _slope(grad, numbers, what)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (numbers,) = ctx.saved_tensors
        result: Tensor = _Slope.apply(grad, numbers, ctx.what)  # type: ignore[no-untyped-call]
        return result, None, None
