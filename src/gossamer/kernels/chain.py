"""Sparse linear maps one after the other, with their activations, as one function: what lies between stays inside.

A ReLU costs nothing then: forward it is applied as a sum leaves the registers, backward as the gradient of what came
out of it does. And autograd is asked once for all of them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gossamer.kernels import activation, ops
from gossamer.kernels.activation import Activation
from gossamer.kernels.eager import feature_major, is_plain, product

_RELU = Activation(slope=0.0, probability=0.0, seed=0)


class Link(NamedTuple):
    """One sparse linear map and what is done to its results.

    Attributes:
        values: the active weights, shape [K].
        bias: shape [O], or None.
        places: the topology, the index of `ops.sparse_linear`.
        activation: slope and dropout behind the map; None: nothing.
    """

    values: Tensor
    bias: Tensor | None
    places: ops.Index
    activation: Activation | None

    @property
    def is_relu(self) -> bool:
        """Whether a ReLU alone follows."""
        return self.activation is not None and self.activation[:2] == _RELU[:2]


def fits(inputs_BF: Tensor, links: Sequence[Link]) -> bool:
    """Whether `chain` takes these: on the CPU, of one dtype, of sizes that follow each other, and nothing looks on."""
    features = inputs_BF.shape[-1]
    for link in links:
        if link.places[2].numel() - 1 != features or link.values.dtype != inputs_BF.dtype or not is_plain(link.values):
            return False
        features = link.places[0].numel() - 1
    return True


def chain(inputs_BF: Tensor, links: Sequence[Link]) -> Tensor:
    """Apply linear maps and activations in turn.

    Args:
        inputs_BF: shape [B, F], any strides.
        links: one or more, which `fits` found fit.

    Returns:
        Shape [B, O] of the last, strides (1, B).

    Raises:
        ValueError: a bias or values do not fit their topology.
    """
    x_FB = feature_major(inputs_BF)
    if not torch.is_grad_enabled():
        return _forward(x_FB, links)[0]
    parameters = [part for link in links for part in (link.values, link.bias)]
    result: Tensor = _Chain.apply(x_FB, links, *parameters)  # type: ignore[no-untyped-call]
    return result


def _forward(x_FB: Tensor, links: Sequence[Link]) -> tuple[Tensor, list[Tensor], list[Tensor | None]]:
    """Return the result, the input of each link, and what undoing its activation takes; None: the next one's input."""
    inputs: list[Tensor] = []
    numbers: list[Tensor | None] = []
    for link in links:
        ops.check(x_FB, link.values, link.bias, link.places)
        inputs.append(x_FB)
        y_BO = given = product(x_FB, link.values, link.bias, link.places, relu=link.is_relu)
        if link.activation is None or link.is_relu:
            numbers.append(None)
        else:
            y_BO = activation.apply(given, link.activation)
            # A ReLU's derivative can be read off its result, which is kept anyway.
            numbers.append(y_BO if link.activation.slope == 0 else given)
        x_FB = y_BO.t()
    if links[-1].is_relu:
        numbers[-1] = y_BO
    return y_BO, inputs, numbers


class _Chain(torch.autograd.Function):
    """Feature-major input, batch-major result; gradients of the links from the last to the first."""

    @staticmethod
    def forward(ctx: Any, x_FB: Tensor, links: Sequence[Link], *parameters: Tensor | None) -> Tensor:
        result, inputs, numbers = _forward(x_FB, links)
        ctx.kept = [(link.places, link.activation) for link in links]
        ctx.save_for_backward(*inputs, *numbers, *parameters)
        return result

    @staticmethod
    def backward(ctx: Any, grad_BO: Tensor) -> tuple[Tensor | None, ...]:
        count = len(ctx.kept)
        saved = ctx.saved_tensors
        inputs, numbers, parameters = saved[:count], saved[count : 2 * count], saved[2 * count :]
        links = [Link(*parameters[2 * place : 2 * place + 2], *kept) for place, kept in enumerate(ctx.kept)]
        if torch.is_grad_enabled() or not is_plain(grad_BO):
            return _differentiable(ctx.needs_input_grad, grad_BO, inputs, numbers, links)
        return _backward(ctx.needs_input_grad, grad_BO, inputs, numbers, links)


def _backward(
    needs: Sequence[bool],
    grad_BO: Tensor,
    inputs: Sequence[Tensor],
    numbers: Sequence[Tensor | None],
    links: Sequence[Link],
) -> tuple[Tensor | None, ...]:
    grads: list[Tensor | None] = [None] * len(needs)
    # Below the lowest link that learns nothing is asked for.
    first = 0 if needs[0] else next(place for place, needed in enumerate(needs[2:]) if needed) // 2
    for place in range(len(links) - 1, first - 1, -1):
        link = links[place]
        if link.activation is not None and (given := numbers[place]) is not None:
            grad_BO = _before_activation(grad_BO, given, link.activation)
        relu = place > 0 and links[place - 1].is_relu
        wanted = (place > first or needs[0], needs[2 + 2 * place], needs[3 + 2 * place])
        grad_FB, *grads[2 + 2 * place : 4 + 2 * place] = _of_link(grad_BO.t(), inputs[place], link, wanted, relu)
        if place == 0:
            grads[0] = grad_FB
        elif grad_FB is not None:
            grad_BO = grad_FB.t()
    return tuple(grads)


def _before_activation(grad: Tensor, numbers: Tensor, what: Activation) -> Tensor:
    if not activation.fits(grad, numbers):
        grad = torch.empty_like(numbers).copy_(grad)
    return activation.gradient(grad, numbers, what)


def _of_link(
    grad_OB: Tensor, x_FB: Tensor, link: Link, wanted: tuple[bool, bool, bool], relu: bool
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of input, values and bias as far as they are wanted; the input's before its ReLU."""
    wants_x, wants_values, wants_bias = wanted
    if wants_x and wants_values:
        return ops.both_gradients(grad_OB, x_FB, link.values, link.places, needs_bias=wants_bias, relu=relu)
    grad_x = grad_values = None
    if wants_x:
        grad_x = ops.ON_CPU.sparse_linear_grad_input(grad_OB, link.values, *link.places)
        grad_x = torch.ops.aten.threshold_backward(grad_x, x_FB, 0) if relu else grad_x
    elif wants_values:
        ops.check(x_FB, link.values, None, link.places)
        grad_values = ops.ON_CPU.sparse_linear_grad_values(grad_OB, x_FB, *link.places)
    return grad_x, grad_values, grad_OB.sum(1) if wants_bias else None


def _differentiable(
    needs: Sequence[bool],
    grad_BO: Tensor,
    inputs: Sequence[Tensor],
    numbers: Sequence[Tensor | None],
    links: Sequence[Link],
) -> tuple[Tensor | None, ...]:
    """The same gradients out of registered operators, so that they can be differentiated again."""
    operands = [inputs[0], None, *(part for link in links for part in (link.values, link.bias))]
    with torch.enable_grad():
        y_OB = inputs[0]
        for place, link in enumerate(links):
            y_OB = ops.sparse_linear(y_OB, link.values, link.bias, link.places)
            if link.activation is not None:
                given = numbers[place]
                known = inputs[place + 1].t().detach() if given is None else given.detach()
                # Each number times a constant is what the activation does to it.
                y_OB = y_OB * _before_activation(torch.ones_like(known), known, link.activation).t()
        asked = [tensor for tensor, needed in zip(operands, needs, strict=True) if needed and tensor is not None]
        found = iter(torch.autograd.grad(y_OB.t(), asked, grad_BO, create_graph=True))
    return tuple(next(found) if needed else None for needed in needs)
