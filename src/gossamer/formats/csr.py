"""CSR: the entries of each row with their columns, for topologies without any structure; the layer that trains."""

from torch import nn

from gossamer.formats.size import TrulySparse, dense_bytes, held_bytes


def hold(layer: nn.Module) -> nn.Module | None:
    """Hold a weight as the truly sparse layers of `gossamer.nn` do, which it is already.

    Args:
        layer: a truly sparse layer of any kind; it is handed back itself.

    Returns:
        The layer; None for other layers, and where it takes more memory than dense: with float32 from about a quarter
        of the entries on, since the topology is kept by rows and by columns.

    Example:
        >>> import torch
        >>> from gossamer.nn import SparseLinear
        >>> sparse = SparseLinear(100, 100, sparsity=0.9, generator=torch.Generator())
        >>> hold(sparse) is sparse
        True
    """
    if not isinstance(layer, TrulySparse):
        return None
    return layer if held_bytes(layer) < dense_bytes(layer) else None
