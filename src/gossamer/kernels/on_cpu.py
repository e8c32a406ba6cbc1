"""The sparse products on the CPU: the kernels behind the operators, and a shorter way to them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gossamer.kernels import buffers, cpu, update
from gossamer.kernels.operands import check, is_narrow, room
from gossamer.kernels.update import Rule


def forward(x: Tensor, values: Tensor, bias: Tensor | None, *index: Tensor) -> Tensor:
    """Compute the operator `sparse_linear`."""
    if is_narrow(x):
        wide_bias = None if bias is None else bias.float()
        return forward(x.float(), values.float(), wide_bias, *index).to(x.dtype)
    return _multiply(index[0], index[1], values, bias, x, transposed=index[2:])


def grad_input(grad: Tensor, values: Tensor, *index: Tensor) -> Tensor:
    """Compute the operator `sparse_linear_grad_input`."""
    if is_narrow(grad):
        return grad_input(grad.float(), values.float(), *index).to(grad.dtype)
    return _multiply(index[2], index[3], values[index[4]], None, grad)


def _multiply(
    pointers: Tensor,
    indices: Tensor,
    values: Tensor,
    bias: Tensor | None,
    x: Tensor,
    *,
    transposed: Sequence[Tensor] | None = None,
) -> Tensor:
    rows, x = pointers.numel() - 1, x.contiguous()
    bias = x.new_zeros(rows) if bias is None else bias.contiguous()
    result = x.new_empty(rows, x.shape[1])
    cpu.multiply(pointers, indices, values.contiguous(), bias, x, result, transposed=transposed)
    return result


def grad_values(grad: Tensor, x: Tensor, *index: Tensor) -> Tensor:
    """Compute the operator `sparse_linear_grad_values`."""
    if is_narrow(grad):
        return grad_values(grad.float(), x.float(), *index).to(grad.dtype)
    result = room(x, index[1].numel())
    cpu.sample(index[0], index[1], grad.contiguous(), x.contiguous(), result)
    return result


def backward(grad: Tensor, x: Tensor, values: Tensor, *index: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the operator `sparse_linear_backward`."""
    if is_narrow(grad):
        check(x, values, None, index)
        wide = backward(grad.float(), x.float(), values.float(), *index)
        return wide[0].to(x.dtype), wide[1].to(values.dtype)
    return gradients(grad, x, values, index, needs=(True, True, False))[:2]  # type: ignore[return-value]


def gradients(
    grad: Tensor,
    x: Tensor,
    values: Tensor,
    index: Sequence[Tensor],
    *,
    needs: tuple[bool, bool, bool],
    relu: bool = False,
    rule: Rule | None = None,
    stays: bool = False,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of the input, the values and the bias, from one call of a kernel where one does it.

    Args:
        grad: gradient of the result, shape [O, B].
        x: input of the forward pass, shape [F, B].
        values: the active weights, shape [K].
        index: the topology.
        needs: which of the three are wanted; None stands in place of the others.
        relu: whether x came out of a ReLU, and the gradient before that is meant.
        rule: how to update the values with their gradient, which is of no use then.
        stays: whether the gradient of the input never leaves the library.

    Raises:
        ValueError: the values are no longer those of the forward pass.
    """
    # Between forward and backward the values may have been exchanged for others, which no version counter shows.
    check(x, values, None, index)
    needs_x, needs_values, needs_bias = needs
    grad_x = grad_values = grad_bias = None
    if not needs_values:
        if needs_x:
            grad_x = grad_input(grad, values, *index)
            grad_x = _before_relu(grad_x, x) if relu else grad_x
        return grad_x, None, grad.sum(1) if needs_bias else None
    grad_values, operands = room(x, values.numel()), (values.contiguous(), x.contiguous(), grad.contiguous())
    if needs_bias:
        grad_bias = grad[:, 0].clone() if x.shape[1] == 1 else room(x, grad.shape[0])
    to_sum = grad_bias if x.shape[1] != 1 else None
    if not needs_x:
        cpu.sample(index[0], index[1], operands[2], operands[1], grad_values, to_sum)
    elif x.shape[1] == 1:
        grad_x = x.new_empty(x.shape)
        cpu.backward_one(index, *operands, grad_x, grad_values)
        grad_x = _before_relu(grad_x, x) if relu else grad_x
    else:
        grad_x = buffers.results(x.shape[0], x.shape[1], x.dtype).t() if stays else x.new_empty(x.shape)
        cpu.backward(index[2], index[3], index[4], *operands, grad_x, grad_values, to_sum, relu=relu, rule=rule)
        return grad_x, grad_values, grad_bias
    if rule is not None:
        update.apply(rule, grad_values)
    return grad_x, grad_values, grad_bias


def _before_relu(grad_x: Tensor, x: Tensor) -> Tensor:
    result: Tensor = torch.ops.aten.threshold_backward(grad_x, x, 0)
    return result
