"""Convolutional networks that are truly sparse from the start."""

import torch
from torch import nn

from gossamer import budgets
from gossamer.counts import check_sparsity
from gossamer.nn import sparsify
from gossamer.nn.counterparts import SPARSE_LAYERS


def born_sparse(
    model: nn.Sequential, *, sparsity: float, budget: budgets.Budget, generator: torch.Generator
) -> nn.Sequential:
    """Return a network with truly sparse layers, its values scaled to the live fan-in; what stays whole stays dense.

    Args:
        model: dense, with its first values.
        sparsity: fraction of all weights that do not exist, in [0, 1); 0: the model itself.
        budget: splits what is kept over the layers.
        generator: source of randomness for the topologies, on the CPU.

    Raises:
        ValueError: sparsity lies outside [0, 1).
    """
    if check_sparsity(sparsity) == 0.0:
        return model
    sparse = sparsify(model, sparsity=sparsity, budget=budget, generator=generator)
    for name, layer in list(sparse.named_modules()):
        if isinstance(layer, SPARSE_LAYERS) and layer.sparsity == 0.0:
            path, _, own = name.rpartition(".")
            setattr(sparse.get_submodule(path), own, layer.to_dense())
    result: nn.Sequential = sparse  # type: ignore[assignment]
    return result
