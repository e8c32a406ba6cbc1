"""int8: each value a whole number from -127 to 127, times one float32 scale for each output; sums stay float32."""

import torch
from torch import Tensor, nn

from gossamer import topology
from gossamer.formats import narrow


class Int8Linear(narrow.NarrowLinear):
    """Apply y = x W^T + b with W = scale * whole numbers from -127 to 127: for inference alone.

    Each output has one scale, and its sum of whole numbers times inputs is float32.

    Made by `hold`, by way of `gs.accelerate` where the caller allows rounding. There is no derivative: nothing here is
    a parameter, and `backward` through it raises RuntimeError. `to_sparse`, and with it `gs.save`, give float32 layers
    of the rounded values: what is computed with, not what was given.

    Input: [*, in_features], the dtype of the bias, float32 (or any under autocast). Output: [*, out_features].

    Example:
        >>> from gossamer.nn import SparseLinear
        >>> layer = SparseLinear(64, 32, sparsity=0.75, generator=torch.Generator().manual_seed(0))
        >>> hold(layer)
        Int8Linear(in_features=64, out_features=32, num_active=512)

    Cost: memory of 3 bytes a weight up to 65,536 inputs, else 5; CSR of float32 has 8, and its transpose.
    """


def hold(layer: nn.Module) -> Int8Linear | None:
    """Hold a weight rounded to int8 with one scale for each output, its largest weight / 127.

    Args:
        layer: a `SparseLinear`, or an `nn.Linear` with zeros, on the CPU and of float32.

    Returns:
        A layer that computes with the rounded weight, no entry of which is further than half a scale from what was
        given; None for other layers, and where it would take more memory than dense.

    Raises:
        ValueError: a weight is not finite.
    """
    sparse = narrow.taken(layer)
    if sparse is None:
        return None
    places = narrow.places_of(sparse)
    if not narrow.is_smaller(sparse, places, bytes_each=1, bytes_an_output=8):
        return None
    rows = topology.row_indices(sparse.topology)
    values, scales = rounded(sparse.values.detach(), rows, sparse.out_features)
    return Int8Linear(
        values,
        places,
        narrow.bias_of(sparse),
        scales=scales,
        in_features=sparse.in_features,
        with_bias=sparse.bias is not None,
    ).train(layer.training)


def rounded(values: Tensor, rows: Tensor, out_features: int) -> tuple[Tensor, Tensor]:
    """Return values as int8 and the scale of each output, 0 where an output has nothing but zeros.

    Args:
        values: finite, float32, shape [num_active].
        rows: the output of each, int64, same shape.
        out_features: number of outputs.

    Example:
        >>> rounded(torch.tensor([-2.54, 1.0, 0.0]), torch.tensor([0, 0, 2]), 3)[0]
        tensor([-127,   50,    0], dtype=torch.int8)
    """
    largest = values.new_zeros(out_features).scatter_reduce(0, rows, values.abs(), "amax")
    # Below the normal numbers a scale would have few digits left; near the largest 127 of them would be infinite.
    limits = torch.finfo(values.dtype)
    scales = (largest / 127).clamp(limits.tiny, limits.max / 127 * (1 - limits.eps))
    scales = torch.where(largest > 0, scales, 0)
    # In float64: a quotient that is rounded first may land on the other side of one half.
    quotients = values.double() / scales.double()[rows]
    return quotients.nan_to_num(0).round().clamp(-127, 127).to(torch.int8), scales
