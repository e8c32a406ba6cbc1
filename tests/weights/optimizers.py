"""Optimizers of every kind of state, one a row."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adamax, AdamW, NAdam, Optimizer, RMSprop, Rprop


class Moments(NamedTuple):
    """State that is neither a tensor nor a list."""

    first: Tensor
    second: Tensor


class Nested(Optimizer):
    """An optimizer that nobody has seen before: state in dicts of lists, in tuples, and beside them other things."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__(parameters, {"lr": 0.1})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for parameter in self.param_groups[0]["params"]:
            state, grad = self.state[parameter], parameter.grad
            if not state:
                state["history"] = {"of gradients": [grad.clone(), 2 * grad], "label": "mine"}
                state["pair"] = (3 * grad, torch.tensor(1.0))
                state["moments"] = Moments(4 * grad, grad.double() ** 2)
                state["counts"] = (grad * 100).long()
                state["step"], state["other"], state["nothing"] = torch.tensor(0.0), torch.arange(77), None
            state["step"] += 1
            parameter.add_(grad, alpha=-0.1)


OPTIMIZERS: dict[str, Callable[[list[nn.Parameter]], Optimizer]] = {
    "SGD": lambda held: SGD(held, lr=0.1, momentum=0.9, weight_decay=0.1),
    "AdamW": lambda held: AdamW(held, lr=0.1, amsgrad=True),
    "RMSprop": lambda held: RMSprop(held, lr=0.1, momentum=0.5, centered=True),
    "Adagrad": lambda held: Adagrad(held, lr=0.1),
    "Adamax": lambda held: Adamax(held, lr=0.1),
    "NAdam": lambda held: NAdam(held, lr=0.1),
    "Rprop": lambda held: Rprop(held, lr=0.1),
    "Nested": Nested,
}
