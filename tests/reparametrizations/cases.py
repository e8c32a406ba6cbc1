"""One row for each reparametrization: it enrols the class in the contract tests."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gossamer import reparametrizations
from gossamer.reparametrizations import (
    ContinuousSparsification,
    HardConcrete,
    SoftThreshold,
    StraightThrough,
    StraightThroughThreshold,
    TargetedDropout,
    VariationalDropout,
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A reparametrization that removes about half of a standard normal weight.

    Attributes:
        name: the class.
        make: (weight, seed of the generator) -> the module; what it learns varies from entry to entry.
        random: whether it draws in training.
        penalized: whether it has a penalty.
    """

    name: str
    make: Callable[[Tensor, int], Any]
    random: bool
    penalized: bool


def normal(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def varied(part: Any, name: str, *, around: float, scale: float) -> Any:
    """Spread what a module learns around a value."""
    learned = getattr(part, name)
    learned.data = around + scale * normal(learned.shape, 7)
    return part


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def hard_concrete(weight: Tensor, seed: int) -> Any:
    part = HardConcrete(weight.shape, log_alpha=0.0, generator=generator(seed))
    return varied(part, "log_alpha", around=-2.4, scale=3.0)


def continuous_sparsification(weight: Tensor, seed: int) -> Any:
    part = ContinuousSparsification(weight.shape, first_score=0.0)
    part.set_temperature_(3.0)
    return varied(part, "scores", around=0.0, scale=1.0)


def variational_dropout(weight: Tensor, seed: int) -> Any:
    part = VariationalDropout(weight.shape, log_variance=0.0, generator=generator(seed))
    return varied(part, "log_variance", around=2.2, scale=0.5)


def straight_through(weight: Tensor, seed: int) -> Any:
    return StraightThrough(normal(weight.shape, 7), num_active=weight.numel() // 2)


def straight_through_threshold(weight: Tensor, seed: int) -> Any:
    return StraightThroughThreshold(normal(weight.shape, 7), threshold=0.1)


def targeted_dropout(weight: Tensor, seed: int) -> Any:
    return TargetedDropout(sparsity=0.5, drop_probability=0.5, generator=generator(seed))


def soft_threshold(weight: Tensor, seed: int) -> Any:
    return SoftThreshold(raw_threshold=0.5)


CASES = [
    Case(name="ContinuousSparsification", make=continuous_sparsification, random=False, penalized=True),
    Case(name="HardConcrete", make=hard_concrete, random=True, penalized=True),
    Case(name="SoftThreshold", make=soft_threshold, random=False, penalized=False),
    Case(name="StraightThrough", make=straight_through, random=False, penalized=False),
    Case(name="StraightThroughThreshold", make=straight_through_threshold, random=False, penalized=True),
    Case(name="TargetedDropout", make=targeted_dropout, random=True, penalized=False),
    Case(name="VariationalDropout", make=variational_dropout, random=True, penalized=True),
]

CLASSES = sorted(name for name in reparametrizations.__all__ if name[0].isupper())


def part_of(layer: nn.Module) -> Any:
    """Return the reparametrization of a layer's weight."""
    parts: Any = layer.parametrizations
    return parts.weight[0]


def layer_of(case: Case, seed: int = 0, *, dtype: torch.dtype = torch.float32) -> nn.Linear:
    """Return a parametrized layer of 8 inputs and 6 outputs."""
    layer = nn.Linear(8, 6, dtype=dtype)
    layer.weight.data = normal((6, 8), 1).to(dtype)
    nn.utils.parametrize.register_parametrization(layer, "weight", case.make(layer.weight.detach(), seed))
    return layer
