"""A small network, data for it, and rules of every kind, for the tests of pruning."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gossamer as gs
from gossamer import criteria, solvers

Data = list[tuple[Tensor, Tensor]]


def network() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 16), nn.ReLU(),
            nn.Linear(16, 4),
        )  # fmt: skip


def samples(count: int = 40) -> Data:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, 1, 6, 6, generator=generator)
    targets = torch.randint(4, (count,), generator=generator)
    return [(inputs[i : i + 16], targets[i : i + 16]) for i in range(0, count, 16)]


def active(model: nn.Module) -> list[int]:
    return [int(weight.count_nonzero()) for weight in model.parameters() if weight.dim() > 1]


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


OF_WEIGHTS = [
    criteria.magnitude, criteria.random, criteria.magnitude_increase, criteria.sensitivity, criteria.wanda,
    criteria.snip, criteria.grasp, criteria.synflow, criteria.taylor, criteria.movement, criteria.obd, criteria.fisher,
]  # fmt: skip

OF_UNITS = [
    criteria.geometric_median, criteria.apoz, criteria.mean_activation, criteria.energy, criteria.output_variance,
    criteria.correlation, criteria.taylor_filter, criteria.taylor_activation, criteria.skeletonization,
]  # fmt: skip

SOLVERS = [solvers.obc, solvers.sparsegpt, solvers.l_obs, partial(solvers.woodfisher, block_size=50, dampening=1e-4)]


def name_of(rule: Any) -> str:
    return str(getattr(rule, "func", rule).__name__)


def pruned(model: nn.Module, rule: Callable[..., Any], **settings: Any) -> Any:
    first = {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    given: dict[str, Any] = {
        "sparsity": 0.75,
        "data": samples(),
        "loss_fn": F.cross_entropy,
        "generator": generator,
    } | settings
    return gs.prune(model, criterion=rule, first=first, **given)
