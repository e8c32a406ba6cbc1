"""One weight in either storage, made of a dense matrix."""

import torch
from torch import Tensor, nn

from gossamer.nn import SparseLinear
from gossamer.weights import MaskedWeight, SparseWeight

STORAGES = ["masked", "truly sparse"]
View = MaskedWeight | SparseWeight


def linear_of(dense: Tensor) -> nn.Linear:
    """Return a layer without bias that has this weight."""
    layer = nn.Linear(dense.shape[1], dense.shape[0], bias=False, dtype=dense.dtype)
    layer.weight.data.copy_(dense)
    return layer


def view_of(dense: Tensor, storage: str, *, mask: Tensor | None = None, name: str = "w") -> tuple[nn.Module, View]:
    """Return a layer and the view of its weight; what is not zero is active, or what `mask` says."""
    mask = dense != 0 if mask is None else mask
    linear = linear_of(dense)
    assert isinstance(linear.weight, nn.Parameter)
    if storage == "masked":
        masked = MaskedWeight(name, linear.weight)
        masked.set_mask_(mask)
        return linear, masked
    layer = SparseLinear.from_dense(linear, mask=mask)
    return layer, SparseWeight(name, layer)


def dense_of(weight: View) -> list[list[float]]:
    """Return the weight as nested lists, zero where nothing exists."""
    dense = torch.zeros(weight.shape, dtype=weight.values().dtype)
    dense.view(-1)[weight.indices()] = weight.values()
    rows: list[list[float]] = dense.tolist()
    return rows


def momentum_of(weight: View, optimizer: torch.optim.Optimizer) -> Tensor:
    """Return the momentum of the active weights in the order of their indices."""
    buffer: Tensor = optimizer.state[weight.parameter]["momentum_buffer"]
    return buffer[weight.mask] if isinstance(weight, MaskedWeight) else buffer
