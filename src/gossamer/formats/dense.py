"""Dense: every entry, zeros too; what everything else has to beat."""

from torch import nn

from gossamer.formats.size import TrulySparse, dense_bytes

# No layer is made dense that would take more than this: a weight of 50,000 x 50,000 does not exist in any memory.
_MOST_BYTES = 1 << 28


def hold(layer: nn.Module) -> nn.Module | None:
    """Hold a weight as a dense tensor with zeros.

    Args:
        layer: a truly sparse layer of any kind.

    Returns:
        A dense layer that computes the same; None for other layers, and above 256 MiB.

    Example:
        >>> import torch
        >>> from gossamer.nn import SparseLinear
        >>> hold(SparseLinear(8, 4, sparsity=0.5, generator=torch.Generator()))
        Linear(in_features=8, out_features=4, bias=True)
    """
    if not isinstance(layer, TrulySparse):
        return None
    return layer.to_dense() if dense_bytes(layer) <= _MOST_BYTES else None
