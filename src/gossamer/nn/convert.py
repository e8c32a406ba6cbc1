"""Whole models from dense to truly sparse layers and back."""

import copy
import fnmatch
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import torch
from torch import nn

from gossamer import budgets, masks
from gossamer.nn.sparse_linear import SparseLinear

Layer = TypeVar("Layer", bound=nn.Module)


def sparsify(
    model: nn.Module,
    *,
    sparsity: float,
    generator: torch.Generator,
    budget: budgets.Budget = budgets.er,
    exclude: Iterable[str] = (),
    rescale: bool = True,
) -> nn.Module:
    """Return a copy of a model whose linear layers are truly sparse at random places: sparse from the first step.

    Args:
        model: any module; only layers that are exactly `nn.Linear` change, and it is left as it is.
        sparsity: fraction of their weights to remove, over all of them together, in [0, 1).
        generator: source of randomness, on the CPU.
        budget: splits what is kept over the layers, from `gossamer.budgets`.
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
    layers = _linear_layers(model, exclude)
    kept = budget({name: tuple(layer.weight.shape) for name, layer in layers.items()}, sparsity=sparsity)

    def convert(name: str, layer: nn.Linear) -> SparseLinear:
        mask = masks.draw(tuple(layer.weight.shape), kept[name], generator=generator).to(layer.weight.device)
        sparse = SparseLinear.from_dense(layer, mask=mask)
        if rescale:
            rows = torch.repeat_interleave(sparse.row_pointers.diff().long(), output_size=sparse.num_active)
            sparse.values.data.mul_(masks.fan_in_scale(mask).flatten()[rows].to(sparse.values.dtype))
        return sparse

    return _replaced(model, layers, convert)


def to_sparse(model: nn.Module, *, exclude: Iterable[str] = ()) -> nn.Module:
    """Return a copy of a model whose linear layers keep only what is not zero: the end of training with masks.

    Args:
        model: any module; layers that are exactly `nn.Linear` and hold a zero change. It is left as it is.
        exclude: glob patterns, or one, of layer names to leave dense.

    Raises:
        ValueError: no layer holds a zero, or a parameter is shared with another layer.
    """
    layers = _linear_layers(model, exclude)
    layers = {name: layer for name, layer in layers.items() if bool((layer.weight == 0).any())}
    if not layers:
        raise ValueError(f"no linear layer of {type(model).__name__} holds a zero weight; prune it first")
    return _replaced(model, layers, lambda name, layer: SparseLinear.from_dense(layer))


def to_dense(model: nn.Module) -> nn.Module:
    """Return a copy of a model whose truly sparse layers are dense ones with zeros; it is left as it is.

    Raises:
        ValueError: a parameter is shared with another layer.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, SparseLinear)}
    return _replaced(model, layers, lambda name, layer: layer.to_dense())


def _linear_layers(model: nn.Module, exclude: Iterable[str]) -> dict[str, nn.Linear]:
    # A string is a sequence of strings too: its letters, among them a "*" that matches everything.
    exclude = (exclude,) if isinstance(exclude, str) else tuple(exclude)
    layers = {
        name: module
        for name, module in model.named_modules()
        if type(module) is nn.Linear and not any(fnmatch.fnmatch(name, glob) for glob in exclude)
    }
    if not layers:
        raise ValueError(f"{type(model).__name__} has no nn.Linear layer to make sparse; check exclude")
    return layers


def _replaced(model: nn.Module, layers: Mapping[str, Layer], convert: Callable[[str, Layer], nn.Module]) -> nn.Module:
    """Copy a model with some layers replaced, a shared one by one and the same."""
    _check_unshared(model, layers)
    # What is replaced is put into the memo of the copy, so that it is never duplicated.
    memo = {id(layer): convert(name, layer) for name, layer in layers.items()}
    result: nn.Module = copy.deepcopy(model, memo)
    return result


def _check_unshared(model: nn.Module, layers: Mapping[str, nn.Module]) -> None:
    for name, layer in layers.items():
        for kind, tensor in layer.named_parameters(recurse=False):
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
