"""One weight in either storage, made of a dense matrix, and what the tests read of it."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer.nn import SparseLinear
from gossamer.weights import MaskedWeight, SparseWeight, prunable

View = MaskedWeight | SparseWeight
STORAGES = ["masked", "truly sparse"]


def random_dense(rows: int, columns: int, density: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.rand(rows, columns, generator=generator) < density
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64) * chosen


def view_of(dense: Tensor, storage: str, *, bias: bool = False) -> tuple[nn.Module, View]:
    """Return a layer with this weight, attached: what is not zero is active."""
    linear = nn.Linear(dense.shape[1], dense.shape[0], bias=bias, dtype=dense.dtype)
    linear.weight.data.copy_(dense)
    module = linear if storage == "masked" else SparseLinear.from_dense(linear)
    weight = prunable(module)[0]
    if isinstance(weight, MaskedWeight):
        weight.set_mask_(dense != 0)
    weight.attach()
    return module, weight


def train(module: nn.Module, weight: View, optimizer: Optimizer, steps: int = 3) -> None:
    generator = torch.Generator().manual_seed(7)
    for _ in range(steps):
        optimizer.zero_grad()
        inputs = torch.randn(5, weight.shape[1], generator=generator, dtype=weight.parameter.dtype)
        module(inputs).pow(2).mean().backward()
        optimizer.step()
        if isinstance(weight, MaskedWeight):
            weight.apply_mask_()


def state_of(value: Any, weight: View) -> list[Tensor]:
    """Return every state tensor of the weight over its active entries, in a fixed order."""
    if isinstance(value, Tensor):
        if value.shape != weight.parameter.shape:
            return []
        return [value[weight.mask].clone() if isinstance(weight, MaskedWeight) else value.clone()]
    items = [value[key] for key in sorted(value)] if isinstance(value, dict) else value
    return [found for item in items for found in state_of(item, weight)] if isinstance(items, (list, tuple)) else []


def dense_gradient(weight: View) -> Tensor:
    """Put the tiles of the gradient together, and see that each entry comes once."""
    rows, columns = weight.closed_rows.numel(), weight.closed_columns.numel()
    whole, seen = torch.zeros(rows, columns, dtype=weight.parameter.dtype), torch.zeros(rows, columns)
    for first, tile in weight.gradient_tiles():
        place = slice(first // columns, first // columns + tile.shape[0]), slice(first % columns, None)
        whole[place][:, : tile.shape[1]] = tile
        seen[place][:, : tile.shape[1]] += 1
    assert bool((seen == 1).all())
    return whole
