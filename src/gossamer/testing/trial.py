"""What a check is run on: a recipe in one storage, with one optimizer, and what it says of itself."""

import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.sparsifier import Sparsifier
from gossamer.testing.fault import ConformanceError
from gossamer.testing.networks import LINEAR, Network
from gossamer.testing.optimizers import MakeOptimizer, sgd
from gossamer.weights import Weight

STORAGES = ("masked", "truly sparse")

Start = Callable[..., Sparsifier]
Law = str | Callable[[int], Sequence[int] | int | None]
FirstValues = float | Callable[[Weight, Tensor], Tensor] | None


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What a recipe says of itself; as it is here, each weight keeps its count and grown weights start at zero.

    Attributes:
        counts: "per weight": each keeps the number that it starts with; "total": all together do; or a function of the
            step that returns how many are active, of each weight or of all together, or None where that is free.
        counts_change_at: steps after which the number may be another all the same.
        due: steps after which the topology changes, and after no others; None: it may change after any.
        may_rest: steps among them after which it need not.
        first_values: what grown weights start with: a number; a function (weight, linear indices) -> values; or None:
            anything, such as random numbers.
        keeps_state: whether dropped weights keep their optimizer state, and have it back when they are grown.
        resets_state: whether all optimizer state is zeroed when weights are grown.
        moves_survivors: whether updates may change values and state of weights that stay.
        resizes_at: steps after which hidden layers may have another size. What weights were is not compared then.
        finish: what a user calls with the model after `finalize()`, to have plain modules; None: nothing.
    """

    counts: Law = "per weight"
    counts_change_at: Collection[int] = ()
    due: Collection[int] | None = None
    may_rest: Collection[int] = ()
    first_values: FirstValues = 0.0
    keeps_state: bool = False
    resets_state: bool = False
    moves_survivors: bool = False
    resizes_at: Collection[int] = ()
    finish: Callable[[nn.Module], object] | None = None

    def __post_init__(self) -> None:
        """Check what can be checked before a run."""
        if isinstance(self.counts, str) and self.counts not in ("per weight", "total"):
            raise ValueError(f"counts is {self.counts!r}; give 'per weight', 'total' or a function of the step")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A recipe on one storage with one optimizer: what a check is run on.

    Attributes:
        start: (model, optimizer, *, generator, sparsity) -> sparsifier; sparsity is None for a truly sparse model.
        storage: "masked" or "truly sparse".
        optimizer: model -> optimizer.
        promise: what the recipe says of itself.
        network: what is trained.
        sparsity: fraction of its weights to remove, in (0, 1).
        num_steps: optimizer steps of a run; several updates must come within them.
        name: how messages call the recipe; "": by its own name.
    """

    start: Start
    storage: str = "masked"
    optimizer: MakeOptimizer = sgd
    promise: Promise = field(default_factory=Promise)
    network: Network = LINEAR
    sparsity: float = 0.6
    num_steps: int = 14
    name: str = ""

    def __post_init__(self) -> None:
        """Check what can be checked before a run."""
        if self.storage not in STORAGES:
            raise ValueError(f"storage is {self.storage!r}; give one of {', '.join(STORAGES)}")
        if not 0.0 < self.sparsity < 1.0:
            raise ValueError(f"sparsity must lie in (0, 1), got {self.sparsity}")

    def __str__(self) -> str:
        return f"{self.name or _name(self.start)} ({self.storage}, {_name(self.optimizer)})"

    def fault(
        self, rule: str, *, expected: Any, found: Any, step: int | None = None, weight: str | None = None
    ) -> ConformanceError:
        """Return the error that says what is wrong with the recipe; see `ConformanceError`."""
        return ConformanceError(str(self), rule, expected=expected, found=found, step=step, weight=weight)


def seeded(seed: int) -> torch.Generator:
    """Return a generator on the CPU with this seed."""
    return torch.Generator().manual_seed(seed)


def _name(function: Callable[..., Any]) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))
