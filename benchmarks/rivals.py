"""The linear layers that a truly sparse one is measured against, of the same places where the rival takes them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gossamer import topology
from gossamer.nn import SparseLinear


class MaskedLinear(nn.Module):
    """What a mask costs: a dense product with weight * mask."""

    def __init__(self, layer: SparseLinear) -> None:
        super().__init__()
        dense = layer.to_dense()
        self.weight, self.bias = dense.weight, dense.bias
        self.mask: Tensor
        self.register_buffer("mask", topology.to_mask(layer.topology).to(dense.weight.dtype))

    def forward(self, inputs: Tensor) -> Tensor:
        """Multiply with the masked weight."""
        return nn.functional.linear(inputs, self.weight * self.mask, self.bias)


class TorchCSRLinear(nn.Module):
    """What torch offers: a CSR tensor as the parameter and its product with a dense matrix."""

    def __init__(self, layer: SparseLinear) -> None:
        super().__init__()
        places = layer.topology
        weight = torch.sparse_csr_tensor(
            places.row_pointers, places.column_indices, layer.values.detach().clone(), places.shape
        )
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(places.shape[0], 1))

    def forward(self, inputs: Tensor) -> Tensor:
        """Multiply with the CSR weight."""
        outputs: Tensor = (torch.sparse.mm(self.weight, inputs.t()) + self.bias).t()
        return outputs


def sparselab_layer(layer: SparseLinear) -> nn.Module:
    """Make a layer of sparselab: padded CSR, places of its own, as many of them."""
    import sparselab

    made: nn.Module = sparselab.SparseLinear(layer.in_features, layer.out_features, sparsity=layer.sparsity)
    return made


def sparseprop_layer(layer: SparseLinear) -> nn.Module:
    """Make a layer of sparseprop: CSR."""
    import sparseprop.modules

    made: nn.Module = sparseprop.modules.SparseLinear.from_dense(layer.to_dense())
    return made


RIVALS: dict[str, Callable[[SparseLinear], nn.Module]] = {
    "masked dense": MaskedLinear,
    "torch CSR": TorchCSRLinear,
    "sparselab": sparselab_layer,
    "sparseprop": sparseprop_layer,
}
