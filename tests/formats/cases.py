"""Sparse layers of every odd shape, small enough for the dense float64 oracle."""

import torch
from torch import Tensor, nn

from gossamer import formats
from gossamer.nn import SparseLinear

RELATIVE = {torch.float32: 1e-5, torch.float64: 1e-12}
BATCHES = [0, 1, 3, 64, 130]
HELD = {name: hold for name, hold in formats.LINEAR.items() if name in ("lean_csr", "block", "constant_fan_in")}
ALL = {**HELD, "compact": formats.LINEAR["compact"]}


def ragged(outputs: int, inputs: int, seed: int = 5) -> Tensor:
    """About a tenth active, with an empty row where there is room for one."""
    mask = torch.rand(outputs, inputs, generator=torch.Generator().manual_seed(seed)) < 0.1
    mask[outputs // 2] = False
    mask[-1, -1:] = True
    return mask


def blocks(outputs: int, inputs: int, shape: tuple[int, int]) -> Tensor:
    """A fifth of the blocks of a shape, those at the edges cut off."""
    grid = torch.rand(-(-outputs // shape[0]), -(-inputs // shape[1]), generator=torch.Generator().manual_seed(6)) < 0.2
    grid[-1, -1] = True
    return grid.repeat_interleave(shape[0], 0).repeat_interleave(shape[1], 1)[:outputs, :inputs]


def neurons(outputs: int, inputs: int) -> Tensor:
    """Every third output and every second input gone; the first is there."""
    mask = torch.ones(outputs, inputs).bool()
    mask[1::3], mask[:, 1::2] = False, False
    return mask


MASKS = {
    "neurons": neurons(53, 70),
    "outputs": neurons(50, 33) | torch.arange(50).remainder(3).ne(1)[:, None],
    "ragged": ragged(53, 70),
    "one block row": ragged(3, 90),
    "wide": ragged(7, 300),
    "tall": ragged(300, 21),
    "even": ragged(64, 64),
    "blocks 8 x 8": blocks(50, 61, (8, 8)),
    "blocks 4 x 4": blocks(43, 33, (4, 4)),
    "blocks 8 x 1": blocks(37, 29, (8, 1)),
    "nothing": torch.zeros(9, 20).bool(),
    "last entry alone": torch.arange(36 * 20).eq(36 * 20 - 1).view(36, 20),
    "few inputs": ragged(80, 5),
}


def layer_of(mask: Tensor, dtype: torch.dtype = torch.float32, *, bias: bool = True) -> SparseLinear:
    """A layer with normal values at these places."""
    generator = torch.Generator().manual_seed(7)
    linear = nn.Linear(mask.shape[1], mask.shape[0], bias=bias, dtype=dtype)
    with torch.no_grad():
        linear.weight.copy_(torch.randn(mask.shape, generator=generator, dtype=dtype) * mask)
        if linear.bias is not None:
            linear.bias.copy_(torch.randn(mask.shape[0], generator=generator, dtype=dtype))
    return SparseLinear.from_dense(linear, mask=mask)


def held(name: str, layer: SparseLinear) -> nn.Module:
    """The layer in a format that can hold it."""
    module = ALL[name](layer)
    assert module is not None
    return module


def inputs_of(layer: SparseLinear, batch: int) -> Tensor:
    """A normal batch."""
    generator = torch.Generator().manual_seed(batch)
    return torch.randn(batch, layer.in_features, generator=generator, dtype=layer.values.dtype)


def check(outputs: Tensor, layer: SparseLinear, inputs: Tensor) -> None:
    """Compare with the dense product in float64, entry by entry."""
    dense = layer.to_dense().double()
    expected = nn.functional.linear(inputs.double(), dense.weight, dense.bias)
    offset = None if dense.bias is None else dense.bias.abs()
    scale = nn.functional.linear(inputs.double().abs(), dense.weight.abs(), offset)

    assert (outputs.shape, outputs.dtype) == (expected.shape, inputs.dtype)
    assert bool(((outputs.double() - expected).abs() <= RELATIVE[inputs.dtype] * scale).all())
