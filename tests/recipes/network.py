"""A network in either storage, its batches, and what the tests read of a run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer import Sparsifier, budgets
from gossamer.models import mlp
from gossamer.weights import MaskedWeight, SparseWeight

SIZES = [10, 16, 12, 4]
SHAPES = [(16, 10), (12, 16), (4, 12)]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What trains together."""

    model: nn.Sequential
    optimizer: Optimizer
    sparsifier: Sparsifier


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def begin(
    start: Callable[..., Sparsifier], optimizer: Callable[[nn.Module], Optimizer], storage: str, seed: int = 0
) -> Run:
    """Make a network of sparsity 0.6, truly sparse or about to be masked."""
    sparse = storage == "truly sparse"
    generator = seeded(seed)
    model = mlp(SIZES, sparsity=0.6 if sparse else 0.0, budget=budgets.uniform, alpha=0.5, generator=generator)
    held = optimizer(model)
    sparsifier = start(model, held, generator=generator, sparsity=None if sparse else 0.6)
    return Run(model=model, optimizer=held, sparsifier=sparsifier)


def forward_backward(run: Run, step: int) -> None:
    """Take the gradient of the batch that belongs to a step."""
    inputs = torch.randn(16, SIZES[0], generator=seeded(1000 + step)).to(next(run.model.parameters()).dtype)
    run.optimizer.zero_grad()
    loss: Tensor = run.model(inputs).pow(2).mean() + run.model(inputs).mean()
    loss.backward()


def train_step(run: Run, step: int) -> None:
    forward_backward(run, step)
    run.optimizer.step()
    run.sparsifier.step()


def topology_of(run: Run) -> list[list[int]]:
    return [weight.indices().tolist() for weight in run.sparsifier.weights]


def counts_of(run: Run) -> list[int]:
    return [weight.num_active for weight in run.sparsifier.weights]


def over_active(weight: MaskedWeight | SparseWeight, optimizer: Optimizer) -> list[Tensor]:
    """Return values and optimizer state of the active entries, in the order of their indices."""
    state = [value for value in optimizer.state[weight.parameter].values() if isinstance(value, Tensor)]
    tensors = [weight.parameter.detach(), *(value for value in state if value.shape == weight.parameter.shape)]
    return [tensor[weight.mask] if isinstance(weight, MaskedWeight) else tensor.clone() for tensor in tensors]


def everything(run: Run) -> dict[str, Any]:
    """Return the whole state of a run."""
    return {
        "model": run.model.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "sparsifier": run.sparsifier.state_dict(),
    }


def assert_same(one: Any, other: Any, place: str = "") -> None:
    """Compare two states bit for bit."""
    assert type(one) is type(other), place
    if isinstance(one, Tensor):
        assert torch.equal(one, other), place
    elif isinstance(one, dict):
        assert list(one) == list(other), place
        for key in one:
            assert_same(one[key], other[key], f"{place}/{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), place
        for number, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{place}/{number}")
    else:
        assert one == other, place
