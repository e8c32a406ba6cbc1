from collections.abc import Callable
from typing import Any

import pytest
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

from .cases import generator, normal

SHAPE = (1, 10)


def steeper(part: Any, step: int) -> None:
    part.set_temperature_(200.0 ** (step / 400))


def unchanged(part: Any, step: int) -> None:
    """Nothing to set from step to step."""


MAKERS: dict[str, tuple[Callable[[], Any], float, Callable[[Any, int], None]]] = {
    "continuous": (lambda: ContinuousSparsification(SHAPE, first_score=0.05), 0.02, steeper),
    "hard concrete": (lambda: HardConcrete(SHAPE, log_alpha=0.0, generator=generator(0)), 0.5, unchanged),
    "soft threshold": (lambda: SoftThreshold(raw_threshold=-3.0), 0.0, unchanged),
    "straight through": (lambda: StraightThrough(torch.zeros(SHAPE), num_active=2), 0.0, unchanged),
    "threshold": (lambda: StraightThroughThreshold(torch.full(SHAPE, 0.5), threshold=0.0), 0.1, unchanged),
    "targeted": (
        lambda: TargetedDropout(sparsity=0.8, drop_probability=0.5, generator=generator(0)),
        0.0,
        unchanged,
    ),
    "variational": (lambda: VariationalDropout(SHAPE, log_variance=-6.0, generator=generator(0)), 0.01, unchanged),
}


def train(name: str) -> tuple[nn.Linear, Callable[[], Tensor]]:
    """Fit a regression in which the first two of ten inputs matter."""
    make, strength, set_step = MAKERS[name]
    inputs = normal((100, 10), 0)
    targets = inputs[:, :1] * 2 - inputs[:, 1:2]
    layer, part = nn.Linear(10, 1, bias=False), make()
    layer.weight.data = 0.5 * normal(SHAPE, 1)
    nn.utils.parametrize.register_parametrization(layer, "weight", part)
    decay = 0.02 if name == "soft threshold" else 0.0
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, weight_decay=decay)
    for step in range(400):
        set_step(part, step)
        loss = (layer(inputs) - targets).square().mean()
        if strength:
            loss = loss + strength * reparametrizations.penalty(layer)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    layer.eval()
    return layer, lambda: (layer(inputs) - targets).square().mean() / targets.square().mean()


@pytest.mark.parametrize("name", MAKERS)
def test_training_finds_the_weights_that_matter_and_zeros_others(name: str) -> None:
    layer, error = train(name)

    reparametrizations.finish_(layer)

    assert layer.weight[0, :2].all()
    assert int((layer.weight[0, 2:] == 0).sum()) >= 4
    assert error() < 0.05
