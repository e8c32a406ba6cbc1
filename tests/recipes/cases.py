"""One row for each recipe: it enrols the recipe in the contract tests."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from gossamer import Sparsifier, counts, recipes, schedules

from .network import SHAPES

STORAGES = ["masked", "truly sparse"]
OPTIMIZERS: dict[str, Callable[[nn.Module], Optimizer]] = {
    "SGD": lambda model: SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3),
    "AdamW": lambda model: AdamW(model.parameters(), lr=0.01, amsgrad=True),
}
NUM_STEPS = 14
STOP_STEP = 12


@dataclass(frozen=True, kw_only=True)
class Case:
    """A recipe, how it is started and what it does when.

    Attributes:
        name: the recipe.
        start: (model, optimizer, generator=..., sparsity=...) -> sparsifier; gmp takes no generator.
        due: steps of which the topology may change.
        removes: steps at which neurons go.
        grows: whether weights come into being.
    """

    name: str
    start: Callable[..., Sparsifier]
    due: tuple[int, ...] = ()
    removes: tuple[int, ...] = ()
    grows: bool = False


def gmp_from_dense(model: nn.Module, optimizer: Optimizer, *, generator: object, sparsity: float | None) -> Sparsifier:
    """Start gmp, which draws nothing and takes its sparsity for the end in both storages."""
    return recipes.gmp(model, optimizer, sparsity=0.8, start_step=2, stop_step=STOP_STEP, update_every=3)


def gmp_count(numel: int, step: int) -> int:
    """Return how many weights of a tensor gmp leaves after a step, if there were as many."""
    due = max((at for at in (2, 5, 8, 11, 12) if at <= step), default=0)
    return counts.num_active(numel, schedules.cubic(0.0, 0.8, start_step=2, stop_step=STOP_STEP)(due))


CASES = [
    Case(name="static", start=recipes.static),
    Case(
        name="set_",
        start=functools.partial(recipes.set_, update_every=3, stop_step=STOP_STEP),
        due=(3, 6, 9),
        grows=True,
    ),
    Case(
        name="rigl",
        start=functools.partial(recipes.rigl, update_every=3, stop_step=STOP_STEP),
        due=(3, 6, 9),
        grows=True,
    ),
    Case(name="gmp", start=gmp_from_dense, due=(2, 5, 8, 11, 12)),
    Case(
        name="truly_sparse",
        start=functools.partial(
            recipes.truly_sparse,
            update_every=3,
            stop_step=STOP_STEP,
            prune_start_step=4,
            prune_every=4,
            neuron_fraction=0.2,
        ),
        due=(3, 4, 6, 8, 9),
        removes=(4, 8),
        grows=True,
    ),
]
NUMELS = [rows * columns for rows, columns in SHAPES]
