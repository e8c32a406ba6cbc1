"""Whether a weight is still what a sparsifier took: somebody may have replaced or resized it since."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer.weights.masked import MaskedWeight
from gossamer.weights.sparse import SparseWeight

REMEDY = "call finalize() before such a change, and make optimizer and sparsifier anew after it"


def check_intact(
    weight: MaskedWeight | SparseWeight, parameter: nn.Parameter, shape: torch.Size, optimizer: Optimizer
) -> None:
    """Raise if a weight was replaced or resized behind the back of the sparsifier that holds it.

    Args:
        weight: as it is now.
        parameter: what the sparsifier took.
        shape: of the parameter when the sparsifier looked last.
        optimizer: holds the parameter.

    Raises:
        RuntimeError: the module has another parameter, which the optimizer does not move; values and places, or values
            and mask, do not fit; or the optimizer's state is that of another topology.
    """
    current = weight.current
    if current is not None and current is not parameter:
        raise RuntimeError(
            f"{weight.name} is another parameter than the one that optimizer and sparsifier hold; copy new values into "
            f"the old one (data.copy_, or load_state_dict without assign=True), or {REMEDY}"
        )
    if isinstance(weight, MaskedWeight):
        weight.check_shape(parameter.shape)
    elif parameter.shape != weight.module.column_indices.shape:
        raise RuntimeError(
            f"{weight.name} has shape {tuple(parameter.shape)} for {weight.module.column_indices.numel()} places; "
            f"change both at once with replace_() or load_state_dict(), or {REMEDY}"
        )
    elif parameter.shape != shape and _is_kept(optimizer.state.get(parameter), shape):
        raise RuntimeError(
            f"{weight.name} has {parameter.numel()} active weights where the optimizer's state is of {shape.numel()}; "
            "after loading a model load the optimizer's state, too, that was saved with it"
        )


def _is_kept(state: Any, shape: torch.Size) -> bool:
    return any(isinstance(leaf, Tensor) and leaf.shape == shape for leaf in _leaves(state))


def _leaves(state: Any) -> Iterator[Any]:
    if isinstance(state, dict):
        state = list(state.values())
    if isinstance(state, (list, tuple)):
        for item in state:
            yield from _leaves(item)
    else:
        yield state
