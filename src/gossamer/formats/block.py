"""Blocks: small dense rectangles, those without any weight left out, for topologies made of such."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gossamer import topology
from gossamer.formats.size import dense_bytes
from gossamer.formats.state import CheckedModule, problem_with
from gossamer.kernels import block, inference
from gossamer.nn import SparseLinear
from gossamer.topology import Topology

# (rows, columns): taller blocks have no registers, wider ones gain nothing.
SHAPES = ((4, 1), (8, 1), (4, 4), (8, 4), (8, 8))


class Packed(NamedTuple):
    """A weight in blocks.

    Attributes:
        values: each block column by column, zeros where it has no weight, shape [blocks * rows * columns].
        columns: the input at which each block starts, shape [blocks].
        pointers: blocks of block row r stand at [pointers[r], pointers[r + 1]).
    """

    values: Tensor
    columns: Tensor
    pointers: Tensor


class BlockLinear(CheckedModule):
    """Apply y = x W^T + b with a weight held in blocks of rows x columns: for inference alone.

    Made by `hold`, by way of `gs.accelerate`. The outputs of a block share each load of an input, which is what CSR
    waits for. There is no derivative: nothing here is a parameter, and `backward` through it raises RuntimeError.

    Args:
        packed: the weight.
        bias: zeros for none, filled up to whole blocks, shape [block rows * rows].
        in_features: size of the last axis of the input.
        out_features: size of the last axis of the output.
        shape: (rows, columns) of a block.
        with_bias: whether the layer that was held has a bias.

    Input: [*, in_features], the dtype of the values (or any under autocast). Output: [*, out_features].

    Example:
        >>> mask = torch.eye(4).bool().repeat_interleave(4, 0)
        >>> hold(SparseLinear.from_dense(nn.Linear(4, 16), mask=mask))
        BlockLinear(in_features=4, out_features=16, shape=(4, 1), blocks=4)

    Cost: memory of the stored blocks, zeros inside them too, 4 bytes a block and 4 a block row.
    """

    values: Tensor
    columns: Tensor
    pointers: Tensor
    bias: Tensor

    def __init__(
        self,
        packed: Packed,
        bias: Tensor,
        *,
        in_features: int,
        out_features: int,
        shape: tuple[int, int],
        with_bias: bool,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features, self.shape, self.with_bias = in_features, out_features, shape, with_bias
        for name, part in packed._asdict().items():
            self.register_buffer(name, part)
        self.register_buffer("bias", bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the layer; see the class for shapes."""
        x_FB = inference.enter(inputs, self.in_features, self.values.dtype)
        y_PB = inference.block_linear(x_FB, self.values, self.columns, self.pointers, self.bias, self.shape)
        return inference.leave(y_PB, inputs.shape, self.out_features)

    def to_sparse(self) -> SparseLinear:
        """Return the layer that trains, with the weights that are not zero."""
        rows, columns = inference.block_entries(self.columns, self.pointers, self.shape)
        bias = self.bias if self.with_bias else None
        return sparse_layer(rows, columns, self.values, bias, (self.out_features, self.in_features))

    def extra_repr(self) -> str:
        """Show sizes and blocks."""
        sizes = f"in_features={self.in_features}, out_features={self.out_features}"
        return f"{sizes}, shape={self.shape}, blocks={self.columns.numel()}"

    def _problem_in(self, state: Mapping[str, Any]) -> str | None:
        problem = problem_with(state.get("columns"), self.in_features - self.shape[1] + 1, state.get("pointers"))
        return f"columns: {problem}" if problem else None


def hold(layer: nn.Module) -> BlockLinear | None:
    """Hold a weight in the blocks that suit it best.

    Args:
        layer: a `SparseLinear` on the CPU, float32 or float64.

    Returns:
        A layer that computes the same; None for other layers, and where the blocks hold so many zeros that they take
        more memory than dense.
    """
    if not isinstance(layer, SparseLinear) or not layer.values.is_cpu:
        return None
    if layer.values.dtype not in (torch.float32, torch.float64):
        return None
    places, itemsize = layer.topology, layer.values.element_size()
    most = dense_bytes(layer)
    costs = {}
    for shape in SHAPES:
        if shape[0] <= block.most_rows() and shape[1] <= layer.in_features:
            number = _num_blocks(places, shape)
            block_rows = -(-layer.out_features // shape[0])
            size = number * (shape[0] * shape[1] * itemsize + 4) + block_rows * (shape[0] * itemsize + 4) + 4
            if size < most:
                # For each column of a block: as many products as it has rows, and loading one input.
                costs[shape] = number * (shape[1] * (shape[0] + 1.5) + 1)
    if not costs:
        return None
    shape = min(costs, key=lambda shape: costs[shape])
    packed = pack(places, layer.values.detach(), shape)
    rows = (packed.pointers.numel() - 1) * shape[0]
    return BlockLinear(
        packed,
        filled_bias(layer, rows),
        in_features=layer.in_features,
        out_features=layer.out_features,
        shape=shape,
        with_bias=layer.bias is not None,
    ).train(layer.training)


def pack(places: Topology, values: Tensor, shape: tuple[int, int]) -> Packed:
    """Put weights into blocks.

    Args:
        places: which weights exist.
        values: the weights in the order of the topology, shape [num_active].
        shape: (rows, columns) of a block; no more columns than the weight has.

    Returns:
        The blocks that hold any weight. Where columns are left over the last block starts further to the left, so that
        none reaches beyond the inputs.
    """
    (outputs, inputs), (height, width) = places.shape, shape
    rows, columns = topology.row_indices(places), places.column_indices.long()
    across = -(-inputs // width)
    numbers, which = torch.unique(_block_of(places, shape), return_inverse=True)
    starts = (numbers % across * width).clamp(max=inputs - width)
    packed = values.new_zeros(numbers.numel() * height * width)
    packed[which * (height * width) + (columns - starts[which]) * height + rows % height] = values
    pointers = torch.searchsorted(numbers // across, torch.arange(-(-outputs // height) + 1))
    dtype = places.column_indices.dtype
    return Packed(packed, starts.to(dtype), pointers.to(dtype))


def filled_bias(layer: SparseLinear, outputs: int) -> Tensor:
    """Return the bias of a layer, zeros for none, with zeros up to a number of outputs."""
    bias = layer.values.detach().new_zeros(outputs)
    if layer.bias is not None:
        bias[: layer.out_features] = layer.bias.detach()
    return bias


def sparse_layer(
    rows: Tensor, columns: Tensor, values: Tensor, bias: Tensor | None, shape: tuple[int, int]
) -> SparseLinear:
    """Return the layer that trains, with the entries of a format that are not zero; `bias` may be filled up."""
    there = values != 0
    linear, order = (rows[there] * shape[1] + columns[there]).sort()
    bias = None if bias is None else bias[: shape[0]]
    return SparseLinear.from_topology(topology.from_linear(linear, shape), values[there][order], bias)


def _block_of(places: Topology, shape: tuple[int, int]) -> Tensor:
    """The block of each entry, counted row by row."""
    across = -(-places.shape[1] // shape[1])
    return topology.row_indices(places) // shape[0] * across + places.column_indices // shape[1]


def _num_blocks(places: Topology, shape: tuple[int, int]) -> int:
    blocks = _block_of(places, shape)
    size = -(-places.shape[0] // shape[0]) * -(-places.shape[1] // shape[1])
    # A mark for each block is faster than to sort, as long as that is no detour through the size of the weight.
    if size > 64 * places.num_active:
        return int(torch.unique(blocks).numel())
    marks = torch.zeros(size, dtype=torch.bool)
    marks[blocks] = True
    return int(marks.sum())
