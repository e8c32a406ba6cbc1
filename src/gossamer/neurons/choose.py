"""The hidden layers of a model that may change their size, and one of them by its name."""

from collections.abc import Sequence

from torch import nn

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
