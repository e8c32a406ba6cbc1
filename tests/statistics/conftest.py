from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Mixed(nn.Module):
    """A convolution with batch normalisation, an in-place activation, a linear layer and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.hidden = nn.Linear(4 * 9, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.act(self.norm(self.conv(inputs)))
        found = F.relu(self.hidden(found.flatten(1)))
        outputs: Tensor = self.head(found)
        return outputs


@pytest.fixture
def model() -> Mixed:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mixed: Any = Mixed().double()
        mixed.norm.running_mean.normal_()
        mixed.norm.running_var.uniform_(0.5, 2.0)
    return cast(Mixed, mixed)


@pytest.fixture
def data() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(11, 2, 6, 6, generator=generator, dtype=torch.float64)
    targets = torch.randint(3, (11,), generator=generator)
    # The last batch is shorter.
    return [(inputs[i : i + 4], targets[i : i + 4]) for i in (0, 4, 8)]
