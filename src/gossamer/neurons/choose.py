"""The hidden layers of a model that may change their size, and one of them by its name."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gossamer.neurons.hidden import HiddenLayer, View, find_hidden
from gossamer.weights import is_held, prunable


def hidden_layers(model: nn.Module, weights: Sequence[View] | None) -> list[HiddenLayer]:
    """Return the hidden layers of a model, with the views that a sparsifier has of their weights.

    Args:
        model: not wrapped for several processes.
        weights: of the sparsifier that trains the model, None where there is none.

    Raises:
        ValueError: a sparsifier holds the weights and they were not given, or there is no such layer.
        TypeError: the model is wrapped.
    """
    if isinstance(model, nn.parallel.DistributedDataParallel):
        raise TypeError(
            "DistributedDataParallel cannot follow a parameter that changes its length; change model.module in every "
            "process alike and wrap it anew"
        )
    given = list(weights or [])
    known = {id(weight.parameter) for weight in given}
    others = [weight for weight in prunable(model, frozen=True) if id(weight.parameter) not in known]
    for weight in others:
        if is_held(weight):
            raise ValueError(f"a sparsifier holds {weight.name}; give its weights: weights=sparsifier.weights")
    found = find_hidden(model, [*given, *others])
    if not found:
        raise ValueError(
            f"{type(model).__name__} shows no two linear layers with only element-wise functions between that share "
            "nothing and are used once, so the size of no hidden layer can change"
        )
    return found


def hidden_layer(model: nn.Module, name: str, weights: Sequence[View] | None) -> HiddenLayer:
    """Return the hidden layer of a name.

    Args:
        model: see `hidden_layers`.
        name: of the linear layer that leads into the neurons, as in `model.named_modules()`, or of its weight.
        weights: see `hidden_layers`.

    Raises:
        ValueError: it is not known that one other layer alone reads this one, or as `hidden_layers`.
    """
    found = hidden_layers(model, weights)
    modules = dict(model.named_modules())
    for hidden in found:
        if hidden.layer is modules.get(name) or hidden.weight.name == name:
            return hidden
    names = ", ".join(hidden.weight.name for hidden in found)
    raise ValueError(
        f"{name!r} is no layer whose outputs one other linear layer alone reads, through element-wise functions, with "
        f"neither shared; the hidden layers that can change their size: {names}"
    )


def as_numbers(neurons: Tensor, hidden: HiddenLayer) -> Tensor:
    """Return the numbers of chosen neurons, ascending, each once, on the device of the layer.

    Args:
        neurons: numbers, shape [n], int64, or a mask, shape [units], bool.
        hidden: the layer.

    Raises:
        ValueError: neither of these, or a number out of range.
    """
    units = hidden.num_units
    device = hidden.weight.closed_rows.device
    if neurons.dtype == torch.bool and neurons.shape == (units,):
        return neurons.to(device).nonzero().flatten()
    if neurons.dtype != torch.int64 or neurons.dim() != 1:
        raise ValueError(
            f"neurons must be numbers of dtype int64, shape [n], or a mask, bool, shape [{units}], got {neurons.dtype} "
            f"of shape {tuple(neurons.shape)}"
        )
    if neurons.numel() and not (int(neurons.min()) >= 0 and int(neurons.max()) < units):
        raise ValueError(f"{hidden.weight.name} has neurons 0 to {units - 1}, got {neurons.tolist()}")
    numbers: Tensor = neurons.to(device).unique()
    return numbers
