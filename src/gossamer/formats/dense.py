"""Dense: every entry, zeros too; what everything else has to beat."""

from torch import nn

from gossamer.formats.size import dense_bytes
from gossamer.nn import SparseLinear

# No layer is made dense that would take more than this: a weight of 50,000 x 50,000 does not exist in any memory.
_MOST_BYTES = 1 << 28


def hold(layer: nn.Module) -> nn.Linear | None:
    """Hold a weight as a dense tensor with zeros.

    Args:
        layer: a `SparseLinear`.

    Returns:
        A dense layer that computes the same; None for other layers, and above 256 MiB.

    Example:
        >>> import torch
        >>> sparse = SparseLinear(8, 4, sparsity=0.5, generator=torch.Generator())
        >>> hold(sparse)
        Linear(in_features=8, out_features=4, bias=True)
    """
    if not isinstance(layer, SparseLinear):
        return None
    size = dense_bytes(layer.out_features, layer.in_features, layer.values.element_size(), bias=layer.bias is not None)
    return layer.to_dense() if size <= _MOST_BYTES else None
