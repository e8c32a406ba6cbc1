"""Lean CSR: float32 values with places of 16 bits and no transpose, a third of what the layer that trains takes."""

import torch
from torch import nn

from gossamer.formats import narrow
from gossamer.nn import SparseLinear


class LeanCsrLinear(narrow.NarrowLinear):
    """Apply y = x W^T + b with a weight held by rows alone, nothing rounded: for inference alone.

    Made by `hold`, by way of `gs.accelerate`. There is no derivative: nothing here is a parameter, and `backward`
    through it raises RuntimeError. `to_sparse`, and with it `gs.save`, give the layer that trains, without
    weights that are zero.

    Small batches wait for weights and places to be read, so fewer bytes of them are less time.

    Input: [*, in_features], the dtype of the bias, float32 (or any under autocast). Output: [*, out_features].

    Example:
        >>> layer = SparseLinear(64, 32, sparsity=0.75, generator=torch.Generator().manual_seed(0))
        >>> hold(layer)
        LeanCsrLinear(in_features=64, out_features=32, num_active=512)

    Cost: memory of 6 bytes a weight up to 65,536 inputs, else 8; the layer that trains has 16.
    """


def hold(layer: nn.Module) -> LeanCsrLinear | None:
    """Hold a weight by rows, with places as narrow as its inputs allow.

    Args:
        layer: a `SparseLinear` on the CPU and of float32.

    Returns:
        A layer that computes the same; None for other layers, and where it would take more memory than dense.
    """
    if not isinstance(layer, SparseLinear) or not layer.values.is_cpu or layer.values.dtype != torch.float32:
        return None
    places = narrow.places_of(layer)
    if not narrow.is_smaller(layer, places, bytes_each=4, bytes_an_output=4):
        return None
    return LeanCsrLinear(
        layer.values.detach().clone(),
        places,
        narrow.bias_of(layer),
        in_features=layer.in_features,
        with_bias=layer.bias is not None,
    ).train(layer.training)
