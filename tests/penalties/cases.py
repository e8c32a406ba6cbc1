"""One row for each penalty and each proximal step: it enrols them in the contract tests."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer import penalties


@dataclass(frozen=True, kw_only=True)
class Case:
    """A penalty or a step, and how it is called on a weight alone.

    Attributes:
        name: the function.
        call: weight of any shape -> scalar or new values; further inputs are made up from the weight.
    """

    name: str
    call: Callable[[Tensor], Tensor]


def rows(weight: Tensor) -> Tensor:
    """Number each entry by its place along the first axis, from a number that is no place."""
    if not weight.dim():
        return torch.tensor(-3)
    numbers = 10 * torch.arange(weight.shape[0]) - 3
    return numbers.view(-1, *[1] * (weight.dim() - 1)).expand(weight.shape)


PENALTIES = [
    Case(name="group_hoyer_square", call=lambda weight: penalties.group_hoyer_square(weight, rows(weight))),
    Case(name="group_lasso", call=lambda weight: penalties.group_lasso(weight, rows(weight))),
    Case(name="hoyer_square", call=penalties.hoyer_square),
    Case(name="l1", call=penalties.l1),
    Case(name="polarization", call=lambda scale: penalties.polarization(scale, t=1.2)),
    Case(name="slimming", call=penalties.slimming),
]

STEPS = [
    Case(name="group_lasso_step", call=lambda w: penalties.group_lasso_step(w, rows(w), threshold=0.5)),
    Case(name="l1_step", call=lambda weight: penalties.l1_step(weight, threshold=0.5)),
]
