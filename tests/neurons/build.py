"""Small networks in both storages, with a live sparsifier or without, and what the tests read of them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer import Sparsifier, to_sparse
from gossamer.models import mlp
from gossamer.nn import AllReLU, ReLU, SparseLinear
from gossamer.weights import MaskedWeight, SparseWeight, prunable

STORAGES = ["masked", "truly sparse"]
ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {
    "ReLU": lambda layer: nn.ReLU(inplace=True),
    "ReLU with dropout": lambda layer: ReLU(dropout=0.3),
    "All-ReLU": lambda layer: AllReLU(alpha=0.6, layer=layer, dropout=0.2),
    "sigmoid and dropout": lambda layer: nn.Sequential(nn.Sigmoid(), nn.Dropout(0.5)),
    "GELU": lambda layer: nn.GELU(),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(
    sizes: list[int], storage: str, *, activation: str = "ReLU", bias: bool = True, density: float = 0.4, seed: int = 0
) -> nn.Sequential:
    """Return an MLP in float64 at random places, with biases that are not zero."""
    generator = seeded(seed)
    layers: list[nn.Module] = []
    for depth in range(1, len(sizes)):
        linear = nn.Linear(sizes[depth - 1], sizes[depth], bias=bias, dtype=torch.float64)
        for parameter in linear.parameters():
            parameter.data.normal_(generator=generator)
        linear.weight.data *= torch.rand(linear.weight.shape, generator=generator) < density
        layers += [linear] if depth == len(sizes) - 1 else [linear, ACTIVATIONS[activation](depth)]
    model = nn.Sequential(*layers)
    if storage == "masked":
        return model
    sparse = to_sparse(model)
    assert isinstance(sparse, nn.Sequential)
    assert isinstance(sparse[0], SparseLinear)
    return sparse


def kill_(model: nn.Sequential, layer: int, *, incoming: list[int], outgoing: list[int]) -> None:
    """Drop all weights into some neurons of a hidden layer, and all out of others."""
    views = prunable(model)
    for view in views:
        if isinstance(view, MaskedWeight):
            view.mask = view.parameter.detach() != 0
    rows, columns = views[layer].indices() // views[layer].shape[1], views[layer + 1].indices() % views[layer].shape[0]
    for view, gone in (
        (views[layer], torch.isin(rows, torch.tensor(incoming))),
        (views[layer + 1], torch.isin(columns, torch.tensor(outgoing))),
    ):
        none = torch.empty(0, dtype=torch.int64)
        view.change_((~gone).nonzero().flatten(), none, none.float(), None)


def held(model: nn.Module, optimizer: Optimizer) -> Sparsifier:
    """Return a sparsifier that leaves the topology as it is."""
    weights = prunable(model)
    for weight in weights:
        if isinstance(weight, MaskedWeight):
            weight.set_mask_(weight.parameter.detach() != 0)
    return Sparsifier(weights, optimizer, updates=[], generator=seeded())


def steps(model: nn.Module, optimizer: Optimizer, sparsifier: Sparsifier | None, count: int, width: int) -> None:
    """Train a little, dropout off."""
    model.eval()
    for step in range(count):
        inputs = torch.randn(8, width, generator=seeded(100 + step), dtype=torch.float64)
        optimizer.zero_grad()
        model(inputs).pow(2).mean().backward()
        optimizer.step()
        if sparsifier:
            sparsifier.step()


def sizes_of(model: nn.Module) -> list[tuple[int, int]]:
    return [
        (layer.out_features, layer.in_features)
        for layer in model.modules()
        if isinstance(layer, (nn.Linear, SparseLinear))
    ]


def dense_of(weight: MaskedWeight | SparseWeight, numbers: Tensor) -> Tensor:
    """Return one number of each entry, zero where nothing is active, shape of the weight."""
    if isinstance(weight, MaskedWeight):
        return numbers * weight.mask
    dense = numbers.new_zeros(weight.shape)
    dense.view(-1)[weight.indices()] = numbers
    return dense


def state_of(value: Any, shape: torch.Size) -> list[Tensor]:
    """Return every state tensor of a shape, in a fixed order."""
    if isinstance(value, Tensor):
        return [value.clone()] if value.shape == shape else []
    items = [value[key] for key in sorted(value)] if isinstance(value, dict) else value
    return [found for item in items for found in state_of(item, shape)] if isinstance(items, (list, tuple)) else []


def plain(sizes: list[int], storage: str) -> nn.Sequential:
    return mlp(sizes, sparsity=0.5 if storage == "truly sparse" else 0.0, generator=seeded()).double()
