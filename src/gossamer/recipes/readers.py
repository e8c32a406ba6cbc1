"""Which weight reads the outputs of which: found by tracing the model, without data."""

from collections.abc import Sequence

from torch import nn

from gossamer.neurons import find_hidden
from gossamer.neurons.hidden import View


def find_readers(model: nn.Module, weights: Sequence[View]) -> dict[str, str]:
    """Return, for each weight whose outputs surely go to one other weight alone, the name of that weight.

    Only element-wise modules and functions may stand between the two, and each of them is used once. A model that
    cannot be traced, because its forward pass depends on values, has no known readers.

    Args:
        model: what the weights are of.
        weights: from `weights.prunable(model)`.

    Example:
        >>> from gossamer.weights import prunable
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> find_readers(model, prunable(model))
        {'0.weight': '2.weight'}
    """
    return {hidden.weight.name: hidden.reader.name for hidden in find_hidden(model, weights)}
