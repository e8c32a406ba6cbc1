"""Small networks for the checks, dense as they are made."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from gossamer.models import mlp


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network and its inputs.

    Attributes:
        make: generator -> dense model, its first values drawn from it.
        batch_shape: shape of a batch of inputs, four samples or more.
    """

    make: Callable[[torch.Generator], nn.Module]
    batch_shape: tuple[int, ...]


def linear(generator: torch.Generator) -> nn.Module:
    """Make three linear layers with All-ReLU between them."""
    return mlp([10, 16, 12, 4], alpha=0.5, generator=generator)


def convolutional(generator: torch.Generator) -> nn.Module:
    """Make convolutions of two and of one dimension, strided and grouped, and a linear layer."""
    # The layers draw first values of their own, which are replaced: the global generator must not notice.
    with torch.random.fork_rng(devices=[]):
        model = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True),
            nn.Conv2d(6, 8, (3, 2), groups=2, stride=2), nn.ReLU(), nn.Flatten(2),
            nn.Conv1d(8, 4, 3, bias=False), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(28, 5),
        )  # fmt: skip
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            bound = (6 / parameter[0].numel()) ** 0.5
            parameter.data.uniform_(-bound, bound, generator=generator)
        elif name.endswith("bias"):
            parameter.data.zero_()
    return model


LINEAR = Network(make=linear, batch_shape=(16, 10))
CONVOLUTIONAL = Network(make=convolutional, batch_shape=(6, 3, 8, 7))
