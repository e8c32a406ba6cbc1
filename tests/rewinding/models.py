"""Models with zeros, and the check that a refusal changes nothing."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gossamer.rewinding import snapshot

HALF = torch.tensor([[True, False, True, False], [False, True, False, False], [True, True, True, False]])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dense() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2))


def trained_and_pruned(model: nn.Sequential) -> nn.Sequential:
    """Return a copy with other values everywhere and zeros in the first layer."""
    model = copy.deepcopy(model)
    for number, tensor in enumerate(model.state_dict().values()):
        tensor.add_(number + 1)
    model.get_parameter("0.weight").data[~HALF] = 0.0
    return model


class Reader(nn.Module):
    """A table, a recurrent layer and attention."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 4, padding_idx=0)
        self.recurrent = nn.GRU(4, 4)
        self.attention = nn.MultiheadAttention(4, 2)


def zeros_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value == 0 for name, value in model.named_parameters() if value.dim() > 1}


def assert_refused(model: nn.Module, act: Any, text: str) -> None:
    """Check the error, and that it left the model as it was."""
    before = snapshot(model)
    with pytest.raises(ValueError, match=text):
        act()

    assert list(before) == list(model.state_dict())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
