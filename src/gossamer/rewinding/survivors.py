"""Which weights survive: of dense layers by masks or zeros, of truly sparse ones by their topology."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gossamer.nn.counterparts import SPARSE_LAYERS, SparseLayer
from gossamer.weights.prunable import own_weights

Masks = Mapping[str, Tensor]


def surviving(
    model: nn.Module, given: Masks | None, *, embeddings: bool = True
) -> dict[str, tuple[Tensor, nn.Parameter]]:
    """The mask and the parameter of each dense weight by its name; a shared one comes once."""
    given = given or {}
    names: dict[nn.Parameter, list[str]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for own in own_weights(module, embeddings=embeddings):
            # One that is computed by a parametrization is no parameter.
            weight = None if isinstance(module, SPARSE_LAYERS) else module._parameters.get(own)
            if weight is not None:
                names.setdefault(weight, []).append(f"{path}.{own}".lstrip("."))
    found = {}
    for weight, known in names.items():
        name = next((name for name in known if name in given), known[0])
        found[name] = (_checked(name, given[name], weight) if name in given else weight != 0, weight)
    if unknown := sorted(set(given) - set(found)):
        raise ValueError(f"there are masks for {', '.join(unknown)}, the model has dense weights {', '.join(found)}")
    return found


def _checked(name: str, mask: Tensor, weight: Tensor) -> Tensor:
    """The mask on the device of its weight."""
    if mask.shape != weight.shape:
        raise ValueError(f"the mask of {name} has shape {tuple(mask.shape)}, the weight {tuple(weight.shape)}")
    if mask.dtype != torch.bool:
        raise ValueError(f"the mask of {name} has dtype {mask.dtype}; a mask is bool, True = survives")
    return mask.to(weight.device)


def is_same(parameter: Tensor, entry: Tensor) -> bool:
    """Whether an entry of the state is this parameter; tensors without entries all have one address."""
    mine, theirs = ((one.data_ptr(), one.shape, one.stride()) for one in (parameter, entry))
    return mine == theirs


def sparse_layers(model: nn.Module) -> dict[str, SparseLayer]:
    """The truly sparse layers by the prefix of their names in a state."""
    modules = model.named_modules(remove_duplicate=False)
    return {f"{path}.".lstrip("."): module for path, module in modules if isinstance(module, SPARSE_LAYERS)}
