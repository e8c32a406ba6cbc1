"""Hidden layers of the sizes that a saved state has."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.neurons.hidden import HiddenLayer, Linear, View, find_hidden
from gossamer.neurons.resize import resize_
from gossamer.nn import SparseLinear
from gossamer.weights import prunable


def fit_(model: nn.Module, state: Mapping[str, Any], *, weights: Sequence[View] | None = None) -> None:
    """Give the hidden layers of a model the sizes that they have in a state, so that this can be loaded.

    A training in which neurons were removed or grown goes on so: make model, optimizer and sparsifier as at its start,
    fit the model to the saved state, then load model, optimizer and sparsifier in any order. Layers whose sizes are
    right stay as they are; of others the values mean nothing until the state is loaded.

    Args:
        model: of the same architecture but for the sizes of hidden layers.
        state: from `state_dict()` of the model that was saved, its layers dense or truly sparse.
        weights: `sparsifier.weights`, where there is a sparsifier.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> other = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
        >>> fit_(other, model.state_dict())
        >>> _ = other.load_state_dict(model.state_dict())
    """
    for hidden, wanted in _misfits(model, state, weights):
        numbers = torch.arange(wanted)
        resize_(hidden, torch.where(numbers < hidden.num_units, numbers, -1), None)


def fits(model: nn.Module, state: Mapping[str, Any]) -> bool:
    """Return whether no hidden layer has another size in a state; see `fit_`."""
    return not _misfits(model, state, None)


def _misfits(
    model: nn.Module, state: Mapping[str, Any], weights: Sequence[View] | None
) -> list[tuple[HiddenLayer, int]]:
    """The hidden layers of another size, and the size they have in a state."""
    prefixes = {id(module): f"{name}." if name else "" for name, module in model.named_modules()}
    linear = [module for module in model.modules() if isinstance(module, (SparseLinear, nn.Linear))]
    if not any(_differs(state, prefixes[id(layer)], layer) for layer in linear):
        # Nothing to trace.
        return []
    own = list(weights or [])
    known = {id(weight.parameter) for weight in own}
    others = [weight for weight in prunable(model, frozen=True) if id(weight.parameter) not in known]
    found = []
    for hidden in find_hidden(model, [*own, *others]):
        wanted = _size_in(state, prefixes[id(hidden.layer)], axis=0)
        same = wanted == _size_in(state, prefixes[id(hidden.reader_layer)], axis=1)
        # Where the two disagree the state is of another model, and loading it says so.
        if same and wanted not in (None, 0, hidden.num_units):
            found.append((hidden, int(wanted or 0)))
    return found


def _differs(state: Mapping[str, Any], prefix: str, layer: Linear) -> bool:
    sizes = _size_in(state, prefix, axis=0), _size_in(state, prefix, axis=1)
    return None not in sizes and sizes != (layer.out_features, layer.in_features)


def _size_in(state: Mapping[str, Any], prefix: str, *, axis: int) -> int | None:
    """The size of an axis of a layer's weight in a state, None where it has none."""
    pointers = state.get(prefix + ("row_pointers", "column_pointers")[axis])
    if isinstance(pointers, Tensor) and pointers.dim() == 1:
        return pointers.numel() - 1
    weight = state.get(prefix + "weight")
    return int(weight.shape[axis]) if isinstance(weight, Tensor) and weight.dim() == 2 else None
