"""Whole models from dense to truly sparse layers and back."""

import copy
import fnmatch
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from gossamer import budgets, masks
from gossamer.nn.counterparts import SPARSE_LAYERS, SPARSE_RECURRENT, can_be_sparse, parts, sparse_of
from gossamer.nn.sequential import Sequential
from gossamer.nn.sparse_linear import SparseLinear

_NAMES = "Linear, Conv1d, Conv2d, RNN, LSTM, GRU and their cells"


def sparsify(
    model: nn.Module,
    *,
    sparsity: float,
    generator: torch.Generator,
    budget: budgets.Budget = budgets.er,
    exclude: Iterable[str] = (),
    rescale: bool = True,
) -> nn.Module:
    """Return a copy of a model whose layers are truly sparse at random places: sparse from the first step.

    Of all that `gossamer.prunable` lists what has a truly sparse layer: Linear, Conv1d and Conv2d that pad with zeros,
    RNN, LSTM, GRU and their cells. Embeddings stay dense, as they do there: a word's few numbers are all that tells it
    from others. Make a `SparseEmbedding`, or prune the table, where you want one.

    Args:
        model: any module; only layers of exactly these classes change, and it is left as it is.
        sparsity: fraction of their weights to remove, over all of them together, in [0, 1).
        generator: source of randomness, on the CPU.
        budget: splits what is kept over the weights, from `gossamer.budgets`; it knows a weight by the name of its
            layer, in recurrent layers with its own name behind it, such as "rnn.weight_hh_l0".
        exclude: glob patterns, or one, of layer names to leave dense.
        rescale: whether to multiply each output's surviving weights by sqrt(fan-in / live fan-in), which keeps the
            scale of the signal; pass False for a trained model.

    Raises:
        ValueError: no layer to change, a parameter is shared with another layer, or sparsity outside [0, 1).

    Example:
        >>> model = nn.Sequential(nn.Linear(100, 50), nn.ReLU(), nn.Linear(50, 10))
        >>> sparse = sparsify(model, sparsity=0.9, generator=torch.Generator())
        >>> sparse[0].num_active + sparse[2].num_active
        550
    """
    layers = {name: layer for name, layer in _layers(model, exclude).items() if not isinstance(layer, nn.Embedding)}
    if not layers:
        raise ValueError(f"{type(model).__name__} has no layer to make sparse, of {_NAMES}; check exclude")
    shapes = {
        _weight_name(path, own): tuple(layer.get_parameter(own).shape)
        for path, layer in layers.items()
        for own in parts(layer)
    }
    kept = budget(shapes, sparsity=sparsity)

    def convert(path: str, layer: nn.Module) -> nn.Module:
        names = {own: _weight_name(path, own) for own in parts(layer)}
        drawn = {own: masks.draw(shapes[name], kept[name], generator=generator) for own, name in names.items()}
        drawn = {own: mask.to(layer.get_parameter(own).device) for own, mask in drawn.items()}
        sparse = sparse_of(layer, drawn)
        for own, inner in parts(layer).items() if rescale else ():
            _rescale_(sparse.get_submodule(inner), drawn[own])
        return sparse

    return _replaced(model, layers, convert)


def to_sparse(model: nn.Module, *, exclude: Iterable[str] = ()) -> nn.Module:
    """Return a copy of a model whose layers keep only what is not zero: the end of training with masks.

    Layers that hold a zero change: Linear, Conv1d and Conv2d that pad with zeros, Embedding, RNN, LSTM, GRU and their
    cells. Of an embedding the row of padding_idx does not count. Whether a layer is faster for it, or smaller, is not
    asked; `gs.accelerate` measures that.

    Args:
        model: any module; layers of exactly these classes that hold a zero change. It is left as it is.
        exclude: glob patterns, or one, of layer names to leave dense.

    Raises:
        ValueError: no layer holds a zero, or a parameter is shared with another layer.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4, 2))
        >>> model[0].weight.data[0] = 0
        >>> to_sparse(model)[0].num_active
        27
    """
    layers = _layers(model, exclude)
    if not layers:
        raise ValueError(f"{type(model).__name__} has no layer to make sparse, of Embedding, {_NAMES}; check exclude")
    layers = {name: layer for name, layer in layers.items() if _holds_zero(layer)}
    if not layers:
        raise ValueError(f"no layer of {type(model).__name__} holds a zero weight; prune it first")
    return _replaced(model, layers, lambda name, layer: sparse_of(layer))


def to_dense(model: nn.Module) -> nn.Module:
    """Return a copy of a model whose truly sparse layers are dense ones with zeros; it is left as it is.

    Raises:
        ValueError: a parameter is shared with another layer.
    """
    whole = {name: module for name, module in model.named_modules() if isinstance(module, SPARSE_RECURRENT)}
    # Weights of recurrent layers are layers too, and go with the whole.
    inside = {id(inner) for module in whole.values() for inner in module.modules()}
    alone = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, SPARSE_LAYERS) and id(module) not in inside
    }
    return _replaced(model, {**whole, **alone}, lambda name, layer: layer.to_dense())  # type: ignore[operator]


def _layers(model: nn.Module, exclude: Iterable[str]) -> dict[str, nn.Module]:
    """The dense layers that can be truly sparse."""
    # A string is a sequence of strings too: its letters, among them a "*" that matches everything.
    exclude = (exclude,) if isinstance(exclude, str) else tuple(exclude)
    return {
        name: module
        for name, module in model.named_modules()
        if can_be_sparse(module) and not any(fnmatch.fnmatch(name, glob) for glob in exclude)
    }


def _weight_name(path: str, own: str) -> str:
    """What a budget calls a weight."""
    return path if own == "weight" else f"{path}.{own}".lstrip(".")


def _holds_zero(layer: nn.Module) -> bool:
    zeros = [layer.get_parameter(own).detach() == 0 for own in parts(layer)]
    if isinstance(layer, nn.Embedding) and layer.padding_idx is not None:
        # That row is zero from the start, which does not make the table sparse.
        zeros[0][layer.padding_idx] = False
    return any(bool(each.any()) for each in zeros)


def _rescale_(layer: nn.Module, mask: Tensor) -> None:
    """Multiply the values of each output by sqrt(fan-in / live fan-in)."""
    values, pointers = layer.get_parameter("values"), layer.get_buffer("row_pointers")
    rows = torch.repeat_interleave(pointers.diff().long(), output_size=values.numel())
    values.data.mul_(masks.fan_in_scale(mask).flatten()[rows].to(values.dtype))


def _replaced(
    model: nn.Module, layers: Mapping[str, nn.Module], convert: Callable[[str, nn.Module], nn.Module]
) -> nn.Module:
    """Copy a model with some layers replaced, a shared one by one and the same."""
    _check_unshared(model, layers)
    # What is replaced is put into the memo of the copy, so that it is never duplicated.
    memo = {id(layer): convert(name, layer) for name, layer in layers.items()}
    result: nn.Module = copy.deepcopy(model, memo)
    for module in result.modules():
        # Of exactly this class: it does what ours does, for which hooks, slices and names are the same.
        if type(module) is nn.Sequential and any(type(child) is SparseLinear for child in module):
            module.__class__ = Sequential
    return result


def _check_unshared(model: nn.Module, layers: Mapping[str, nn.Module]) -> None:
    for name, layer in layers.items():
        for kind, tensor in layer.named_parameters():
            owners = sorted(
                path
                for path, module in model.named_modules()
                if any(parameter is tensor for parameter in module._parameters.values())
            )
            if len(owners) > 1:
                raise ValueError(
                    f"the {kind} of {name} is shared by {', '.join(owners)}; a replaced layer cannot share it: "
                    "untie it, or exclude the layer"
                )
