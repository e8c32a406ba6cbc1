"""Small layers whose dense twin computes the same."""

import torch
from torch import Tensor, nn

from gossamer.nn import SparseLinear


def sparse(
    in_features: int = 6,
    out_features: int = 4,
    *,
    sparsity: float = 0.5,
    seed: int = 0,
    bias: bool = True,
    dtype: torch.dtype | None = None,
) -> SparseLinear:
    """A layer with a bias that is not zero, so that forgetting it shows."""
    generator = torch.Generator().manual_seed(seed)
    layer = SparseLinear(in_features, out_features, sparsity=sparsity, bias=bias, generator=generator, dtype=dtype)
    if layer.bias is not None:
        layer.bias.data.normal_(generator=generator)
    return layer


def masked(layer: SparseLinear) -> nn.Linear:
    """The dense twin, whose gradient is zero where no weight exists."""
    dense = layer.to_dense()
    mask = dense.weight.detach() != 0
    dense.weight.register_hook(lambda grad: grad * mask)
    return dense


def live(layer: SparseLinear, weight: Tensor) -> Tensor:
    """The entries of a dense tensor at the layer's places."""
    rows = torch.repeat_interleave(layer.row_pointers.diff().long())
    return weight[rows, layer.column_indices.long()]


def inputs(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def tensors(layer: nn.Module) -> dict[str, Tensor]:
    """Copies of everything a module holds, its derived buffers too."""
    return {name: part.detach().clone() for name, part in [*layer.named_parameters(), *layer.named_buffers()]}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether names, dtypes and every bit agree."""
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """A few steps on fixed float64 inputs, with gradients of very different size."""
    for step in range(4):
        optimizer.zero_grad()
        output: Tensor = model(inputs(5, 6, seed=step, dtype=torch.float64) * 10.0**-step)
        output.square().sum().backward()
        optimizer.step()
