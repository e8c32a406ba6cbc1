"""Sparse linear maps one after the other, with their activations, as one function: what lies between stays inside.

A ReLU costs nothing then: forward it is applied as a sum leaves the registers, backward as the gradient of what came
out of it does. And autograd is asked once for all of them.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gossamer.kernels import activation, on_cpu, ops, update
from gossamer.kernels.activation import Activation
from gossamer.kernels.eager import feature_major, is_plain, product
from gossamer.kernels.operands import Index, check
from gossamer.kernels.update import Rule

_RELU = Activation(slope=0.0, probability=0.0, seed=0)


# What updates a parameter as its gradient comes, or None: the gradient goes the usual way.
RuleOf = Callable[[Tensor], Rule | None]


class Link(NamedTuple):
    """One sparse linear map and what is done to its results.

    Attributes:
        values: the active weights, shape [K]; of a dense map all of them, shape [O, F].
        bias: shape [O], or None.
        places: the topology, the index of `ops.sparse_linear`.
        activation: slope and dropout behind the map; None: nothing.
    """

    values: Tensor
    bias: Tensor | None
    places: Index
    activation: Activation | None

    @property
    def flat(self) -> Tensor:
        """The active weights, shape [K]."""
        return self.values if self.values.dim() == 1 else self.values.reshape(-1)

    @property
    def is_relu(self) -> bool:
        """Whether a ReLU alone follows."""
        return self.activation is not None and self.activation[:2] == _RELU[:2]


@lru_cache(maxsize=16)
def all_places(outputs: int, features: int) -> Index:
    """Return the topology of a dense map: one of few outputs is done sooner by rows of weights than as a matrix."""
    places = np.arange(outputs * features, dtype=np.int32).reshape(outputs, features)
    rows, columns = np.arange(outputs + 1) * features, np.arange(features + 1) * outputs
    index = (rows, places % max(1, features), columns, places.reshape(features, outputs) % max(1, outputs), places.T)
    # By way of NumPy: what is kept belongs to no mode of torch that was on, and lies where kernels read it.
    with torch.inference_mode(False):
        return tuple(torch.from_numpy(part.astype(np.int32).ravel()) for part in index)  # type: ignore[return-value]


def fits(inputs_BF: Tensor, links: Sequence[Link]) -> bool:
    """Whether `chain` takes these: on the CPU, of one dtype, of sizes that follow each other, and nothing looks on."""
    features = inputs_BF.shape[-1]
    for link in links:
        if link.places[2].numel() - 1 != features or link.values.dtype != inputs_BF.dtype or not is_plain(link.values):
            return False
        features = link.places[0].numel() - 1
    return True


def chain(inputs_BF: Tensor, links: Sequence[Link], rule_of: RuleOf | None = None) -> Tensor:
    """Apply linear maps and activations in turn.

    Args:
        inputs_BF: shape [B, F], any strides.
        links: one or more, which `fits` found fit.
        rule_of: how a parameter is updated in the backward pass, which then returns no gradient for it.

    Returns:
        Shape [B, O] of the last, strides (1, B).

    Raises:
        ValueError: a bias or values do not fit their topology.
    """
    x_FB = feature_major(inputs_BF)
    if not torch.is_grad_enabled():
        return _forward(x_FB, links)[0]
    parameters = [part for link in links for part in (link.values, link.bias)]
    result: Tensor = _Chain.apply(x_FB, (links, rule_of), *parameters)  # type: ignore[no-untyped-call]
    return result


def _forward(x_FB: Tensor, links: Sequence[Link]) -> tuple[Tensor, list[Tensor], list[Tensor | None]]:
    """Return the result, the input of each link, and what undoing its activation takes; None: the next one's input."""
    inputs: list[Tensor] = []
    numbers: list[Tensor | None] = []
    for place, link in enumerate(links):
        values = link.flat
        check(x_FB, values, link.bias, link.places)
        inputs.append(x_FB)
        stays = place < len(links) - 1
        y_BO = given = product(x_FB, values, link.bias, link.places, relu=link.is_relu, stays=stays)
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
    def forward(
        ctx: Any, x_FB: Tensor, how: tuple[Sequence[Link], RuleOf | None], *parameters: Tensor | None
    ) -> Tensor:
        links, ctx.rule_of = how
        result, inputs, numbers = _forward(x_FB, links)
        ctx.kept = [(link.places, link.activation) for link in links]
        ctx.save_for_backward(*inputs, *numbers, *parameters)
        return result

    @staticmethod
    def backward(ctx: Any, grad_BO: Tensor) -> tuple[Tensor | None, ...]:
        count = len(ctx.kept)
        try:
            saved = ctx.saved_tensors
        except RuntimeError as error:
            if ctx.rule_of is None:
                raise
            raise RuntimeError(
                "a parameter was changed between the forward and the backward pass; with update_in_backward each "
                "forward pass in training mode is followed by its own backward pass, once: call remove() on what it "
                "returned where a run is called twice or its graph is kept"
            ) from error
        inputs, numbers, parameters = saved[:count], saved[count : 2 * count], saved[2 * count :]
        links = [Link(*parameters[2 * place : 2 * place + 2], *kept) for place, kept in enumerate(ctx.kept)]
        if torch.is_grad_enabled() or not is_plain(grad_BO):
            return _differentiable(ctx.needs_input_grad, grad_BO, inputs, numbers, links)
        return _backward(ctx.needs_input_grad, grad_BO, inputs, numbers, links, ctx.rule_of or _no_rule)


def _no_rule(parameter: Tensor) -> Rule | None:
    return None


def _backward(
    needs: Sequence[bool],
    grad_BO: Tensor,
    inputs: Sequence[Tensor],
    numbers: Sequence[Tensor | None],
    links: Sequence[Link],
    rule_of: RuleOf,
) -> tuple[Tensor | None, ...]:
    grads: list[Tensor | None] = [None] * len(needs)
    # Below the lowest link that learns nothing is asked for.
    first = 0 if needs[0] else next(place for place, needed in enumerate(needs[2:]) if needed) // 2
    for place in range(len(links) - 1, first - 1, -1):
        link = links[place]
        if link.activation is not None and (given := numbers[place]) is not None:
            grad_BO = _before_activation(grad_BO, given, link.activation)
        before = links[place - 1] if place else None
        wanted = (place > first or needs[0], needs[2 + 2 * place], needs[3 + 2 * place])
        found = _of_link(grad_BO.t(), inputs[place], link, wanted, before, rule_of)
        grad_FB, *grads[2 + 2 * place : 4 + 2 * place] = found
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
    grad_OB: Tensor,
    x_FB: Tensor,
    link: Link,
    wanted: tuple[bool, bool, bool],
    before: Link | None,
    rule_of: RuleOf,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of input, values and bias as far as they are wanted; the input's before its ReLU.

    A parameter that has a rule is updated, and its gradient is none.
    """
    rule = rule_of(link.values) if wanted[1] else None
    grad_x, grad_values, grad_bias = on_cpu.gradients(
        *(grad_OB, x_FB, link.flat, link.places),
        needs=wanted,
        relu=before is not None and before.is_relu,
        rule=rule,
        stays=before is not None,
    )
    if grad_values is not None:
        grad_values = grad_values.view(link.values.shape) if rule is None else None
    if grad_bias is not None and link.bias is not None and (rule := rule_of(link.bias)) is not None:
        update.apply(rule, grad_bias)
        grad_bias = None
    return grad_x, grad_values, grad_bias


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
            y_OB = ops.sparse_linear(y_OB, link.flat, link.bias, link.places)
            if link.activation is not None:
                given = numbers[place]
                known = inputs[place + 1].t().detach() if given is None else given.detach()
                # Each number times a constant is what the activation does to it.
                y_OB = y_OB * _before_activation(torch.ones_like(known), known, link.activation).t()
        asked = [tensor for tensor, needed in zip(operands, needs, strict=True) if needed and tensor is not None]
        found = iter(torch.autograd.grad(y_OB.t(), asked, grad_BO, create_graph=True))
    return tuple(next(found) if needed else None for needed in needs)
