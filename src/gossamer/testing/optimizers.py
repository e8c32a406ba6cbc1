"""Optimizers that a recipe must get along with: four of torch, and one that no recipe can know."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adagrad, AdamW, Optimizer, RMSprop

MakeOptimizer = Callable[[nn.Module], Optimizer]


class Foreign(Optimizer):
    """An optimizer with odd state, which moves all that it holds, whether it has a gradient or not.

    It keeps a number, a tensor of one number, tensors for each entry, some of them in a dict of lists, and one for each
    row. What it keeps for rows is kept only: it has no part in the step, which is the same in every storage.

    Args:
        parameters: to be moved.
        lr: learning rate, float > 0.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, lr: float = 0.02) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move against an average of the gradients, and a little upwards."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group["lr"])

    def _move(self, parameter: nn.Parameter, grad: torch.Tensor, lr: float) -> None:
        state = self.state[parameter]
        if not state:
            averages = {"fast": [torch.zeros_like(parameter), torch.zeros_like(parameter)], "calls": 0}
            state.update(averages=averages, slow=torch.zeros_like(parameter), number=torch.zeros(()))
        fast = state["averages"]["fast"]
        fast[0].mul_(0.5).add_(grad)
        fast[1].mul_(0.9).add_(grad.square())
        state["averages"]["calls"] += 1
        state["slow"].mul_(0.9).add_(fast[0])
        state["number"] += 1
        state["rows"] = grad.mean(-1) if grad.dim() else grad.clone()
        parameter.add_(state["slow"] / (1 + fast[1].sqrt()), alpha=-lr)
        parameter.add_(0.001)


def sgd(model: nn.Module) -> Optimizer:
    """Return SGD with momentum and weight decay."""
    return SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)


def adamw(model: nn.Module) -> Optimizer:
    """Return AdamW with three tensors for each parameter."""
    return AdamW(model.parameters(), lr=0.01, amsgrad=True)


def rmsprop(model: nn.Module) -> Optimizer:
    """Return RMSprop with three tensors for each parameter."""
    return RMSprop(model.parameters(), lr=0.005, momentum=0.5, centered=True)


def adagrad(model: nn.Module) -> Optimizer:
    """Return Adagrad, which has its state before the first step."""
    return Adagrad(model.parameters(), lr=0.02)


def foreign(model: nn.Module) -> Optimizer:
    """Return `Foreign`."""
    return Foreign(model.parameters())


OPTIMIZERS: tuple[MakeOptimizer, ...] = (sgd, adamw, rmsprop, adagrad, foreign)
