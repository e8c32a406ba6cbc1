"""Constant fan-in: every output has the same number of weights, so there are no pointers, and outputs are a vector."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gossamer import topology
from gossamer.formats.block import filled_bias, sparse_layer
from gossamer.formats.size import dense_bytes
from gossamer.formats.state import CheckedModule, problem_with
from gossamer.kernels import inference
from gossamer.kernels.fan_in import LANES
from gossamer.nn import SparseLinear


class FanInLinear(CheckedModule):
    """Apply y = x W^T + b with as many weights for each output: for inference alone.

    Made by `hold`, by way of `gs.accelerate`. Outputs stand in groups, so that for one sample a register holds sixteen
    of them. There is no derivative: nothing here is a parameter, and `backward` through it raises RuntimeError.

    Args:
        values: the weights, shape [groups, fan-in, 16]; of an output that has fewer the rest is zero.
        indices: the input of each, int16, int32 or int64, same shape.
        bias: zeros for none, shape [groups * 16].
        in_features: size of the last axis of the input.
        out_features: size of the last axis of the output.
        with_bias: whether the layer that was held has a bias.

    Input: [*, in_features], the dtype of the values (or any under autocast). Output: [*, out_features].

    Example:
        >>> layer = SparseLinear(8, 16, sparsity=0.75, generator=torch.Generator().manual_seed(0))
        >>> hold(layer)
        FanInLinear(in_features=8, out_features=16, fan_in=5)

    Cost: memory of the fan-in times the outputs, 6 bytes each with up to 32,768 inputs and float32, else 8.
    """

    values: Tensor
    indices: Tensor
    bias: Tensor

    def __init__(
        self,
        values: Tensor,
        indices: Tensor,
        bias: Tensor,
        *,
        in_features: int,
        out_features: int,
        with_bias: bool,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features, self.with_bias = in_features, out_features, with_bias
        for name, part in {"values": values, "indices": indices, "bias": bias}.items():
            self.register_buffer(name, part)

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the layer; see the class for shapes."""
        x_FB = inference.enter(inputs, self.in_features, self.values.dtype)
        y_PB = inference.fan_in_linear(x_FB, self.values, self.indices, self.bias)
        return inference.leave(y_PB, inputs.shape, self.out_features)

    def to_sparse(self) -> SparseLinear:
        """Return the layer that trains, with the weights that are not zero."""
        rows, columns = inference.fan_in_entries(self.indices)
        bias = self.bias if self.with_bias else None
        return sparse_layer(rows, columns, self.values.flatten(), bias, (self.out_features, self.in_features))

    def extra_repr(self) -> str:
        """Show sizes and fan-in."""
        return f"in_features={self.in_features}, out_features={self.out_features}, fan_in={self.values.shape[1]}"

    def _problem_in(self, state: Mapping[str, Any]) -> str | None:
        problem = problem_with(state.get("indices"), self.in_features)
        return f"indices: {problem}" if problem else None


def hold(layer: nn.Module) -> FanInLinear | None:
    """Hold a weight with as many entries for each output as the fullest output has.

    Args:
        layer: a `SparseLinear` on the CPU, float32 or float64.

    Returns:
        A layer that computes the same; None for other layers, and where it would take more memory than dense.
    """
    if not isinstance(layer, SparseLinear) or not layer.values.is_cpu:
        return None
    if layer.values.dtype not in (torch.float32, torch.float64):
        return None
    places, values = layer.topology, layer.values.detach()
    fan_in = int(places.row_pointers.diff().max()) if layer.out_features else 0
    groups = -(-layer.out_features // LANES)
    # torch has no unsigned 16 bits to speak of.
    dtype = torch.int16 if layer.in_features <= 1 << 15 else places.column_indices.dtype
    size = groups * LANES * (fan_in * (values.element_size() + dtype.itemsize) + values.element_size())
    if size >= dense_bytes(layer):
        return None
    rows = topology.row_indices(places)
    place = torch.arange(places.num_active) - places.row_pointers[rows]
    place = (rows // LANES * fan_in + place) * LANES + rows % LANES
    packed, indices = values.new_zeros(groups, fan_in, LANES), torch.zeros(groups, fan_in, LANES, dtype=dtype)
    packed.view(-1)[place] = values
    indices.view(-1)[place] = places.column_indices.to(dtype)
    return FanInLinear(
        packed,
        indices,
        filled_bias(layer, groups * LANES),
        in_features=layer.in_features,
        out_features=layer.out_features,
        with_bias=layer.bias is not None,
    ).train(layer.training)
