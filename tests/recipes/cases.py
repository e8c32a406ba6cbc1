"""One row for each recipe: it enrols the recipe in the contract tests."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from gossamer import Sparsifier, budgets, counts, recipes, schedules

from .network import SHAPES

STORAGES = ["masked", "truly sparse"]
MASKED = ["masked"]
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
        storages: in which it works.
        sparse_after: steps after which the weights are at a sparsity of 0.8 each, for methods with dense phases.
        free: whether the number of weights comes out of the data.
        keeps_state: whether dropped weights keep their optimizer state, and grown ones have it back.
        resets_state: whether all state goes when weights are grown.
    """

    name: str
    start: Callable[..., Sparsifier]
    due: tuple[int, ...] = ()
    removes: tuple[int, ...] = ()
    grows: bool = False
    storages: list[str] = field(default_factory=lambda: STORAGES)
    sparse_after: tuple[int, ...] | None = None
    free: bool = False
    keeps_state: bool = False
    resets_state: bool = False


def gmp_from_dense(model: nn.Module, optimizer: Optimizer, *, generator: object, sparsity: float | None) -> Sparsifier:
    """Start gmp, which draws nothing and takes its sparsity for the end in both storages."""
    return recipes.gmp(model, optimizer, sparsity=0.8, start_step=2, stop_step=STOP_STEP, update_every=3)


def from_dense(recipe: Callable[..., Sparsifier], **settings: object) -> Callable[..., Sparsifier]:
    """Return a start that draws nothing and starts dense."""

    def start(model: nn.Module, optimizer: Optimizer, *, generator: object, sparsity: float | None) -> Sparsifier:
        return recipe(model, optimizer, **settings)

    return start


def expected_counts(case: "Case", storage: str, step: int) -> list[int] | None:
    """Return how many weights of each tensor there are after a step, where the method fixes it from the dense ones."""
    full = NUMELS if storage == "masked" else [round(0.4 * numel) for numel in NUMELS]
    if case.name == "gmp":
        return [min(most, gmp_count(numel, step)) for most, numel in zip(full, NUMELS, strict=True)]
    if case.sparse_after is None:
        return None
    return [counts.num_active(numel, 0.8) if step in case.sparse_after else numel for numel in NUMELS]


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
        name="dsd",
        start=from_dense(recipes.dsd, sparsity=0.8, start_step=3, stop_step=9),
        due=(3, 9),
        grows=True,
        storages=MASKED,
        sparse_after=tuple(range(3, 9)),
    ),
    Case(
        name="iht",
        start=from_dense(
            recipes.iht, sparsity=0.8, start_step=2, stop_step=STOP_STEP, num_sparse_steps=3, num_dense_steps=2
        ),
        due=(2, 5, 7, 10, 12),
        grows=True,
        storages=MASKED,
        sparse_after=(2, 3, 4, 7, 8, 9, 12, 13, 14),
    ),
    Case(
        name="ac_dc",
        start=from_dense(
            recipes.ac_dc,
            sparsity=0.8,
            start_step=2,
            stop_step=STOP_STEP,
            num_sparse_steps=3,
            num_dense_steps=2,
            budget=budgets.uniform,
        ),
        due=(2, 5, 7, 10, 12),
        grows=True,
        storages=MASKED,
        sparse_after=(2, 3, 4, 7, 8, 9, 12, 13, 14),
        resets_state=True,
    ),
    Case(
        name="dns",
        start=from_dense(recipes.dns, deviations=0.5, start_step=2, stop_step=STOP_STEP, update_every=3, margin=0.02),
        due=(2, 5, 8, 11, 12),
        grows=True,
        storages=MASKED,
        free=True,
        keeps_state=True,
    ),
    Case(
        name="dpf",
        start=from_dense(
            recipes.dpf,
            sparsity=0.8,
            start_step=2,
            full_step=5,
            stop_step=STOP_STEP,
            update_every=3,
            budget=budgets.uniform,
        ),
        due=(2, 5, 8, 11, 12),
        grows=True,
        storages=MASKED,
        sparse_after=tuple(range(5, NUM_STEPS + 1)),
        keeps_state=True,
    ),
    Case(
        name="nest",
        start=functools.partial(
            recipes.nest, update_every=2, prune_start_step=7, stop_step=STOP_STEP, neuron_fraction=0.15
        ),
        due=(2, 4, 6, 7, 9, 11, 12),
        grows=True,
        free=True,
    ),
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
PAIRS = [(case, storage) for case in CASES for storage in case.storages]
