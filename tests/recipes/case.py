"""What a recipe says of itself to be put through the contract tests, and the settings that these share."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn
from torch.optim import Optimizer

from gossamer import Sparsifier, counts, schedules
from gossamer.testing import optimizers
from gossamer.testing.trial import FirstValues, Law

from .network import SHAPES

STORAGES = ["masked", "truly sparse"]
MASKED = ["masked"]
OPTIMIZERS: dict[str, Callable[[nn.Module], Optimizer]] = {"SGD": optimizers.sgd, "AdamW": optimizers.adamw}
OTHER_OPTIMIZERS: dict[str, Callable[[nn.Module], Optimizer]] = {
    "RMSprop": optimizers.rmsprop,
    "Adagrad": optimizers.adagrad,
    "Foreign": optimizers.foreign,
}
NUM_STEPS = 14
STOP_STEP = 12
NUMELS = [rows * columns for rows, columns in SHAPES]


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
        moves: whether weights move between tensors, so that only their total is fixed.
        counts: the law of the numbers of weights, see `testing.Promise`; None: as the fields above say.
        first_values: what grown weights start with, see `testing.Promise`; None: anything.
        may_rest: steps of `due` after which nothing need change.
        moves_survivors: whether updates change values or state of weights that stay.
        resizes_at: steps after which hidden layers may have another size.
        finish: what leaves plain modules after the end; None: nothing needs to.
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
    moves: bool = False
    counts: Law | None = None
    first_values: FirstValues = None
    may_rest: tuple[int, ...] = ()
    moves_survivors: bool = False
    resizes_at: tuple[int, ...] = ()
    finish: Callable[[nn.Module], object] | None = None


def granet_total(step: int) -> int:
    """Return how many weights granet leaves of all tensors together after a step."""
    due = max((at for at in (2, 5, 8, 11) if at <= step), default=2)
    return counts.num_active(sum(NUMELS), schedules.cubic(0.6, 0.8, start_step=2, stop_step=11)(due))


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
