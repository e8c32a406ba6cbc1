"""Compact: a smaller dense matrix, for weights of which whole outputs or inputs are gone, as neuron pruning has it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer import topology
from gossamer.formats.block import sparse_layer
from gossamer.formats.size import dense_bytes
from gossamer.formats.state import CheckedModule, problem_with
from gossamer.kernels import inference
from gossamer.kernels.operands import is_autocast
from gossamer.nn import SparseLinear

# Of outputs or inputs that take part, or of both, at most so many: above, what is saved goes into moving numbers.
_MOST = 0.95


class CompactLinear(CheckedModule):
    """Apply y = x W^T + b with the outputs and the inputs that have any weight, as a dense product: for inference.

    Made by `hold`, by way of `gs.accelerate`. Nothing here is a parameter; the derivative with respect to the input is
    that of torch.

    Args:
        weight: of the outputs and inputs that take part, shape [rows, columns].
        rows: which outputs take part, ascending, int64; None: all.
        columns: which inputs take part, ascending, int64; None: all.
        bias: shape [out_features], or None.
        in_features: size of the last axis of the input.
        out_features: size of the last axis of the output.

    Input: [*, in_features], the dtype of the weight (or any under autocast). Output: [*, out_features].

    Example:
        >>> mask = torch.zeros(4, 6).bool()
        >>> mask[1:3, :2] = True
        >>> hold(SparseLinear.from_dense(nn.Linear(6, 4), mask=mask))
        CompactLinear(in_features=6, out_features=4, rows=2, columns=2)

    Cost: memory of the smaller matrix, 8 bytes an output and an input that takes part.
    """

    weight: Tensor
    rows: Tensor | None
    columns: Tensor | None
    bias: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        rows: Tensor | None,
        columns: Tensor | None,
        bias: Tensor | None,
        *,
        in_features: int,
        out_features: int,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        for name, part in {"weight": weight, "rows": rows, "columns": columns, "bias": bias}.items():
            self.register_buffer(name, part)

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the layer; see the class for shapes."""
        inference.check_inputs(inputs, self.in_features)
        if is_autocast(inputs):
            # As truly sparse layers do; half precision would also not fit what is copied into.
            with torch.autocast(inputs.device.type, enabled=False):
                return self._product(inputs.to(self.weight.dtype))
        return self._product(inputs)

    def _product(self, inputs: Tensor) -> Tensor:
        if self.columns is not None:
            inputs = inputs.index_select(-1, self.columns)
        if self.rows is None:
            return F.linear(inputs, self.weight, self.bias)
        outputs = inputs.new_zeros(*inputs.shape[:-1], self.out_features)
        outputs = outputs.index_copy(-1, self.rows, F.linear(inputs, self.weight))
        return outputs if self.bias is None else outputs + self.bias

    def to_sparse(self) -> SparseLinear:
        """Return the layer that trains, with the weights that are not zero."""
        device = self.weight.device
        rows = torch.arange(self.out_features, device=device) if self.rows is None else self.rows
        columns = torch.arange(self.in_features, device=device) if self.columns is None else self.columns
        row, column = (part.flatten() for part in torch.meshgrid(rows, columns, indexing="ij"))
        return sparse_layer(row, column, self.weight.flatten(), self.bias, (self.out_features, self.in_features))

    def extra_repr(self) -> str:
        """Show sizes, whole and of what takes part."""
        sizes = f"in_features={self.in_features}, out_features={self.out_features}"
        return f"{sizes}, rows={self.weight.shape[0]}, columns={self.weight.shape[1]}"

    def _problem_in(self, state: Mapping[str, Any]) -> str | None:
        for name, end in (("rows", self.out_features), ("columns", self.in_features)):
            if problem := problem_with(state.get(name), end):
                return f"{name}: {problem}"
        return None


def hold(layer: nn.Module) -> CompactLinear | None:
    """Hold a weight as the smaller dense matrix of the outputs and inputs that have any weight.

    Args:
        layer: a `SparseLinear`.

    Returns:
        A layer that computes the same; None for other layers, and where almost all outputs and inputs take part.
    """
    if not isinstance(layer, SparseLinear):
        return None
    places, values = layer.topology, layer.values.detach()
    there_out, there_in = places.row_pointers.diff() > 0, layer.column_pointers.diff() > 0
    rows, columns = there_out.nonzero().flatten(), there_in.nonzero().flatten()
    size = (rows.numel() * columns.numel() + layer.out_features) * values.element_size()
    size += 8 * (rows.numel() + columns.numel())
    if rows.numel() * columns.numel() > _MOST * layer.out_features * layer.in_features or size >= dense_bytes(layer):
        return None
    weight = values.new_zeros(rows.numel(), columns.numel())
    # The place of each output and input among those that take part.
    row = (there_out.cumsum(0) - 1)[topology.row_indices(places)]
    column = (there_in.cumsum(0) - 1)[places.column_indices.long()]
    weight[row, column] = values
    return CompactLinear(
        weight,
        None if bool(there_out.all()) else rows,
        None if bool(there_in.all()) else columns,
        None if layer.bias is None else layer.bias.detach().clone(),
        in_features=layer.in_features,
        out_features=layer.out_features,
    ).train(layer.training)
