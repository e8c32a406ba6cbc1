"""CSR: the entries of each row with their columns, for topologies without any structure; the layer that trains."""

from torch import nn

from gossamer.formats.size import dense_bytes, held_bytes
from gossamer.nn import SparseLinear


def hold(layer: nn.Module) -> SparseLinear | None:
    """Hold a weight as `nn.SparseLinear` does, which it is already.

    Args:
        layer: a `SparseLinear`; it is handed back itself.

    Returns:
        The layer; None for other layers, and where it takes more memory than dense: with float32 from about a quarter
        of the entries on, since the topology is kept by rows and by columns.

    Example:
        >>> import torch
        >>> sparse = SparseLinear(100, 100, sparsity=0.9, generator=torch.Generator())
        >>> hold(sparse) is sparse
        True
    """
    if not isinstance(layer, SparseLinear):
        return None
    size = dense_bytes(layer.out_features, layer.in_features, layer.values.element_size(), bias=layer.bias is not None)
    return layer if held_bytes(layer) < size else None
