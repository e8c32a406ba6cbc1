"""bfloat16: values of 16 bits with the range of float32 and 8 bits of precision; sums stay float32."""

import torch
from torch import nn

from gossamer.formats import narrow


class Bfloat16Linear(narrow.NarrowLinear):
    """Apply y = x W^T + b with a weight rounded to bfloat16 and sums in float32: for inference alone.

    Made by `hold`, by way of `gs.accelerate` where the caller allows rounding. There is no derivative: nothing here is
    a parameter, and `backward` through it raises RuntimeError. `to_sparse`, and with it `gs.save`, give float32 layers
    of the rounded values: what is computed with, not what was given.

    Input: [*, in_features], the dtype of the bias, float32 (or any under autocast). Output: [*, out_features].

    Example:
        >>> from gossamer.nn import SparseLinear
        >>> layer = SparseLinear(64, 32, sparsity=0.75, generator=torch.Generator().manual_seed(0))
        >>> hold(layer)
        Bfloat16Linear(in_features=64, out_features=32, num_active=512)

    Cost: memory of 4 bytes a weight up to 65,536 inputs, else 6; CSR of float32 has 8, and its transpose.
    """


def hold(layer: nn.Module) -> Bfloat16Linear | None:
    """Hold a weight rounded to bfloat16, to nearest, ties to even.

    Args:
        layer: a `SparseLinear`, or an `nn.Linear` with zeros, on the CPU and of float32.

    Returns:
        A layer that computes with the rounded weight; None for other layers, and where it would take more memory than
        dense.

    Raises:
        ValueError: a weight is not finite, or too large for bfloat16.
    """
    sparse = narrow.taken(layer)
    if sparse is None:
        return None
    places = narrow.places_of(sparse)
    if not narrow.is_smaller(sparse, places, bytes_each=2, bytes_an_output=4):
        return None
    values = sparse.values.detach().to(torch.bfloat16)
    narrow.check_finite(values, into="bfloat16")
    return Bfloat16Linear(
        values,
        places,
        narrow.bias_of(sparse),
        in_features=sparse.in_features,
        with_bias=sparse.bias is not None,
    ).train(layer.training)
