"""Which weights of a model can be sparse."""

import fnmatch
from collections.abc import Iterable

from torch import Tensor, nn

from gossamer.nn.sparse_linear import SparseLinear
from gossamer.weights.masked import MaskedWeight
from gossamer.weights.sparse import SparseWeight
from gossamer.weights.view import Weight


def is_held(weight: Weight) -> bool:
    """Return whether a sparsifier is attached to the weight's parameter."""
    hooks = (weight.parameter._backward_hooks or {}).values()
    return any(isinstance(getattr(hook, "__self__", None), (MaskedWeight, SparseWeight)) for hook in hooks)


def prunable(
    model: nn.Module, *, include: Iterable[str] = ("*",), exclude: Iterable[str] = ()
) -> list[MaskedWeight | SparseWeight]:
    """List the weights of a model that can be sparse: of Linear, Conv1d to Conv3d (masked) and SparseLinear.

    Args:
        model: any module.
        include: glob patterns, or one; a weight is taken if its name matches one.
        exclude: glob patterns, or one; a weight whose name matches one is left out.

    Returns:
        One view for each weight that is trained; a tied weight or a shared module comes once, frozen ones not at all.

    Raises:
        ValueError: no weight is left, or one is no parameter but computed from others.

    Example:
        >>> [weight.name for weight in prunable(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)))]
        ['0.weight', '2.weight']
    """
    # A string is a sequence of strings too: its letters, among them a "*" that matches everything.
    include = (include,) if isinstance(include, str) else tuple(include)
    exclude = (exclude,) if isinstance(exclude, str) else tuple(exclude)
    found: list[MaskedWeight | SparseWeight] = []
    parameter: nn.Parameter | Tensor
    for path, module in model.named_modules():
        if isinstance(module, SparseLinear):
            name, parameter = f"{path}.values".lstrip("."), module.values
        elif isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            name, parameter = f"{path}.weight".lstrip("."), module.weight
        else:
            continue
        wanted = any(fnmatch.fnmatch(name, glob) for glob in include)
        wanted = wanted and not any(fnmatch.fnmatch(name, glob) for glob in exclude)
        taken = any(weight.parameter is parameter for weight in found)
        if wanted and not taken and parameter.requires_grad:
            if isinstance(module, SparseLinear):
                found.append(SparseWeight(name, module))
            elif isinstance(parameter, nn.Parameter):
                found.append(MaskedWeight(name, parameter))
            else:
                raise ValueError(f"{name} is computed by a parametrization, not trained; remove that first")
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no trainable Linear, Conv or SparseLinear weight that matches "
            f"{', '.join(include)}; check include and exclude, and requires_grad"
        )
    return found
