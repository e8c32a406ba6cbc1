"""A network in either storage, and what the tests read of a run; the logic is that of `gossamer.testing`."""

import io
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer import Sparsifier
from gossamer.testing import Trial
from gossamer.testing import run as runs
from gossamer.testing.run import Run, backward, train_step
from gossamer.weights import Weight

__all__ = [
    "SHAPES",
    "SIZES",
    "Run",
    "assert_same",
    "backward",
    "begin",
    "counts_of",
    "everything",
    "over_active",
    "seeded",
    "topology_of",
    "train_step",
]

SIZES = [10, 16, 12, 4]
SHAPES = [(16, 10), (12, 16), (4, 12)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def begin(
    start: Callable[..., Sparsifier], optimizer: Callable[[nn.Module], Optimizer], storage: str, seed: int = 0
) -> Run:
    """Make a network of sparsity 0.6, truly sparse or about to be masked."""
    return runs.begin(Trial(start=start, optimizer=optimizer, storage=storage), seed=seed)


def everything(run: Run) -> dict[str, Any]:
    """Return the whole state of a run, as it comes back from a file."""
    state: dict[str, Any] = torch.load(io.BytesIO(runs.everything(run)), weights_only=True)
    return state


def topology_of(run: Run) -> list[list[int]]:
    return [weight.indices().tolist() for weight in run.sparsifier.weights]


def counts_of(run: Run) -> list[int]:
    return [weight.num_active for weight in run.sparsifier.weights]


def over_active(weight: Weight, optimizer: Optimizer) -> list[Tensor]:
    """Return values and optimizer state of the active entries, in the order of their indices."""
    return list(runs.by_entry(weight, optimizer).values())


def assert_same(one: Any, other: Any) -> None:
    """Compare two states bit for bit."""
    assert runs.first_difference(one, other) is None
