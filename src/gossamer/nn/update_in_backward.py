"""The optimizer's step for runs of sparse layers, taken in the backward pass as each gradient comes."""

import math
import weakref
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from gossamer.kernels.update import Rule

_REMEDY = "use torch.optim.SGD, Adam or AdamW, or leave the update to its step()"


class InBackward:
    """What `update_in_backward` returns: lasts until `remove`, to the end of a `with` block, or as its optimizer."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = weakref.ref(optimizer)

    def remove(self) -> None:
        """Leave all updates to `optimizer.step()` again."""
        optimizer = self.optimizer()
        for key in [key for key, (_, handle, _) in _REGISTERED.items() if handle.optimizer() is optimizer]:
            del _REGISTERED[key]

    def __enter__(self) -> "InBackward":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def rule(self, parameter: Tensor, group: int) -> Rule | None:
        """The next step for a parameter; None where the optimizer is gone or what it remembers is of another size."""
        optimizer = self.optimizer()
        if optimizer is None:
            return None
        settings = optimizer.param_groups[group]
        if isinstance(optimizer, SGD):
            return _sgd(parameter, optimizer.state[parameter] if settings["momentum"] else {}, settings)
        return _adam(parameter, optimizer.state[parameter], settings)


# By the parameter's id, which is its own for as long as it lives: a dictionary with tensors as keys is asked in
# Python, and that for each parameter of each step.
_REGISTERED: dict[int, tuple[weakref.ref[Tensor], InBackward, int]] = {}


def update_in_backward(optimizer: Optimizer) -> InBackward:
    """Have the parameters of `gs.nn.Sequential`'s runs updated during `backward()`, where their gradients are summed.

    No gradient outlives its layer's update, which saves memory; a step takes about as long as without.
    `optimizer.step()` stays in the loop for all other parameters; what the optimizer remembers, schedules of its
    learning rate and its state_dict are as without, and recipes make the same masks. Each `backward()` in training mode
    is a step: this is not for gradients that are accumulated over several batches, clipped, scaled or read, nor for
    `torch.autograd.grad`. Parameters with hooks, with a `.grad` that is not None, and those of layers that something
    listens to (as gradient growth does before it acts), are left to `optimizer.step()`; so are all in eval mode and in
    a process group.

    Args:
        optimizer: torch's SGD, Adam or AdamW itself, not amsgrad, not differentiable.

    Returns:
        A handle with `remove()`, also a context manager. Without it, it lasts as long as the optimizer.

    Raises:
        TypeError: another kind of optimizer.
        ValueError: a setting that is not known here, or parameters that another optimizer updates in backward.

    Source:
        The update is torch's; fusing it with the gradient's sum is our own.

    Example:
        >>> from gossamer.models import mlp
        >>> model = mlp([20, 30, 5], sparsity=0.9, generator=torch.Generator().manual_seed(0))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> with update_in_backward(optimizer):
        ...     model(torch.randn(8, 20)).sum().backward()
        ...     optimizer.step()
        >>> model[0].values.grad is None
        True
    """
    if type(optimizer) not in (SGD, Adam, AdamW):
        raise TypeError(f"the update of {type(optimizer).__name__} in the backward pass is not known; {_REMEDY}")
    for setting in ("amsgrad", "differentiable", "capturable"):
        if any(group.get(setting) for group in optimizer.param_groups):
            raise ValueError(f"an optimizer with {setting}=True does not update in the backward pass; set it to False")
    places = {parameter: at for at, group in enumerate(optimizer.param_groups) for parameter in group["params"]}
    for parameter in places:
        if id(parameter) in _REGISTERED and _REGISTERED[id(parameter)][1].optimizer() not in (None, optimizer):
            raise ValueError(
                "a parameter is updated in the backward pass by another optimizer already; call remove() on what "
                "update_in_backward returned for that one"
            )
    handle = InBackward(optimizer)
    for parameter, at in places.items():
        key = id(parameter)
        _REGISTERED[key] = weakref.ref(parameter, partial(_forget, key)), handle, at
    return handle


def _forget(key: int, reference: object) -> None:
    _REGISTERED.pop(key, None)


def is_asked_for() -> bool:
    """Whether any parameter is to be updated in the backward pass."""
    return bool(_REGISTERED) and not (torch.distributed.is_available() and torch.distributed.is_initialized())


def rule_of(parameter: Tensor) -> Rule | None:
    """The step that is due for a parameter now; None: its gradient goes the usual way."""
    found = _REGISTERED.get(id(parameter))
    # Someone else wants to see the gradient, or there is one already to which this must be added.
    if found is None or parameter.grad is not None or parameter._backward_hooks:
        return None
    if parameter._post_accumulate_grad_hooks or not parameter.is_contiguous():
        return None
    _, handle, group = found
    return handle.rule(parameter, group)


def _sgd(parameter: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Rule | None:
    momentum = group["momentum"]
    kept = state.get("momentum_buffer")
    first = kept is None
    states: tuple[Tensor, ...] = ()
    if momentum:
        kept = state["momentum_buffer"] = torch.zeros_like(parameter) if kept is None else kept
        states = (kept,)
    numbers = (
        *(float(group["lr"]), float(group["weight_decay"]), momentum, 1.0 - group["dampening"]),
        *(float(group["nesterov"]), float(first)),
    )
    return _made(parameter, states, numbers, group)


def _adam(parameter: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Rule | None:
    if not state:
        state["step"] = torch.zeros(())
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
    first, second = (float(beta) for beta in group["betas"])
    rate, decay, steps = float(group["lr"]), float(group["weight_decay"]), float(state["step"]) + 1
    apart = group.get("decoupled_weight_decay", False)
    numbers = (
        *(rate / (1 - first**steps), 0.0 if apart else decay, math.sqrt(1 - second**steps), first, second),
        *(group["eps"], 1 - rate * decay if apart else 1.0),
    )
    rule = _made(parameter, (state["exp_avg"], state["exp_avg_sq"]), numbers, group)
    if rule is not None:
        state["step"] += 1
    return rule


def _made(
    parameter: Tensor, states: tuple[Tensor, ...], numbers: tuple[float, ...], group: dict[str, Any]
) -> Rule | None:
    for state in states:
        if state.shape != parameter.shape or state.dtype != parameter.dtype or not state.is_contiguous():
            return None
    return Rule(parameter, states, numbers, not group["maximize"])
