"""Which weights of a model can be sparse."""

import fnmatch
from collections.abc import Iterable

from torch import Tensor, nn

from gossamer.nn.counterparts import SPARSE_LAYERS
from gossamer.weights.masked import MaskedWeight
from gossamer.weights.sparse import SparseWeight
from gossamer.weights.view import Weight


def is_held(weight: Weight) -> bool:
    """Return whether a sparsifier is attached to the weight's parameter."""
    hooks = (weight.parameter._backward_hooks or {}).values()
    return any(isinstance(getattr(hook, "__self__", None), (MaskedWeight, SparseWeight)) for hook in hooks)


def prunable(
    model: nn.Module,
    *,
    include: Iterable[str] = ("*",),
    exclude: Iterable[str] = (),
    embeddings: bool = False,
    frozen: bool = False,
) -> list[MaskedWeight | SparseWeight]:
    """List the weights of a model that can be sparse.

    Those of all truly sparse layers, and masked those of Linear, Conv1d to Conv3d, RNN, LSTM, GRU and their cells, and
    the projections of MultiheadAttention.

    Args:
        model: any module.
        include: glob patterns, or one; a weight is taken if its name matches one.
        exclude: glob patterns, or one; a weight whose name matches one is left out.
        embeddings: whether the tables of Embedding and EmbeddingBag count; one that is truly sparse always does.
        frozen: whether weights that are not trained count.

    Returns:
        One view for each weight; a tied weight or a shared module comes once.

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
    for path, module in model.named_modules():
        for own in own_weights(module, embeddings=embeddings):
            name = f"{path}.{own}".lstrip(".")
            parameter: Tensor = getattr(module, own)
            wanted = any(fnmatch.fnmatch(name, glob) for glob in include)
            wanted = wanted and not any(fnmatch.fnmatch(name, glob) for glob in exclude)
            taken = any(weight.parameter is parameter for weight in found)
            if wanted and not taken and (parameter.requires_grad or frozen):
                found.append(_view(name, module, parameter))
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no trainable weight that can be sparse (of Linear, Conv, RNN and the like) "
            f"and matches {', '.join(include)}; check include and exclude, and requires_grad"
        )
    return found


def own_weights(module: nn.Module, *, embeddings: bool) -> list[str]:
    """Return the attributes of a module, not of those in it, that hold a weight which can be sparse.

    Args:
        module: of any kind.
        embeddings: whether the tables of Embedding and EmbeddingBag count.
    """
    if isinstance(module, SPARSE_LAYERS):
        return ["values"]
    if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return ["weight"]
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        return ["weight"] if embeddings else []
    if isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
        return [name for name, _ in module.named_parameters(recurse=False) if name.startswith("weight_")]
    if isinstance(module, nn.MultiheadAttention):
        # The output projection is a Linear of its own.
        projections = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
        return [name for name in projections if getattr(module, name) is not None]
    return []


def _view(name: str, module: nn.Module, parameter: Tensor) -> MaskedWeight | SparseWeight:
    if isinstance(module, SPARSE_LAYERS):
        return SparseWeight(name, module)
    if not isinstance(parameter, nn.Parameter):
        raise ValueError(f"{name} is computed by a parametrization, not trained; remove that first")
    return MaskedWeight(name, parameter, module)
