"""What storages with places of 16 bits have in common: the layer, which ones they take, the checks of a state."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gossamer.formats.block import sparse_layer
from gossamer.formats.size import dense_bytes
from gossamer.formats.state import CheckedModule, problem_with
from gossamer.kernels import inference
from gossamer.nn import SparseLinear

# Inputs that 16 bits can count.
_MOST_NARROW = 1 << 16


class Places(NamedTuple):
    """Where the entries of a weight are.

    Attributes:
        pointers: entries of output r stand at [pointers[r], pointers[r + 1]), shape [out_features + 1].
        indices: the input of each, ascending for an output, uint16 up to 65,536 inputs, else int32 or int64.
    """

    pointers: Tensor
    indices: Tensor


class NarrowLinear(CheckedModule):
    """Apply y = x W^T + b with places of 16 bits where they fit, and sums in float32: for inference alone.

    There is no derivative: nothing here is a parameter, and `backward` through it raises RuntimeError.

    Args:
        values: the weights, row by row, by their scale if there are any, shape [num_active].
        places: where they are.
        bias: zeros for none, shape [out_features].
        in_features: size of the last axis of the input.
        with_bias: whether the layer that was held has a bias.
        scales: of each output, shape [out_features]; None: ones.

    Input: [*, in_features], the dtype of the bias, float32 (or any under autocast). Output: [*, out_features].
    """

    values: Tensor
    scales: Tensor | None
    indices: Tensor
    pointers: Tensor
    bias: Tensor

    def __init__(
        self,
        values: Tensor,
        places: Places,
        bias: Tensor,
        *,
        in_features: int,
        with_bias: bool,
        scales: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features, self.with_bias = in_features, bias.numel(), with_bias
        for name, part in {"values": values, "scales": scales, **places._asdict(), "bias": bias}.items():
            self.register_buffer(name, part)

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the layer; see the class for shapes."""
        x_FB = inference.enter(inputs, self.in_features, self.bias.dtype)
        y_OB = inference.narrow_linear(x_FB, self.pointers, self.indices, self.values, self.scales, self.bias)
        return inference.leave(y_OB, inputs.shape, self.out_features)

    def to_sparse(self) -> SparseLinear:
        """Return the layer that trains, with the weights that are computed with and are not zero, in float32."""
        rows = torch.repeat_interleave(self.pointers.diff().long(), output_size=self.values.numel())
        bias = self.bias if self.with_bias else None
        values = self.values.to(self.bias.dtype)
        values = values if self.scales is None else values * self.scales[rows]
        return sparse_layer(rows, self.indices.long(), values, bias, (self.out_features, self.in_features))

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle keeps: torch cannot rebuild a tensor of uint16 from it, one of int16 it can."""
        state = self.__dict__ | {"_buffers": dict(self._buffers)}
        if self.indices.dtype == torch.uint16:
            state["_buffers"]["indices"] = self.indices.view(torch.int16)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take it back, also from before every storage had a place for scales."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._buffers.setdefault("scales", None)
        if self.indices.dtype == torch.int16:
            self.indices = self.indices.view(torch.uint16)

    def extra_repr(self) -> str:
        """Show sizes and the number of weights."""
        sizes = f"in_features={self.in_features}, out_features={self.out_features}"
        return f"{sizes}, num_active={self.values.numel()}"

    def _problem_in(self, state: Mapping[str, Any]) -> str | None:
        problem = problem_with_places(state.get("indices"), state.get("pointers"), self.in_features)
        return f"indices: {problem}" if problem else None


def taken(layer: nn.Module) -> SparseLinear | None:
    """Return a layer as a truly sparse one if its weight can be rounded.

    Args:
        layer: a `SparseLinear`, or an `nn.Linear` with zeros, on the CPU and of float32.

    Returns:
        The layer that is truly sparse; None for all others.

    Raises:
        ValueError: an entry of the weight is not finite.
    """
    # A class of someone's own may compute something else, and with rounding nobody would notice.
    sparse = layer if type(layer) is SparseLinear else None
    if type(layer) is nn.Linear and layer.weight.is_cpu and not layer.weight.all():
        sparse = SparseLinear.from_dense(layer)
    if sparse is None or not sparse.values.is_cpu or sparse.values.dtype != torch.float32:
        return None
    check_finite(sparse.values.detach())
    return sparse


def check_finite(values: Tensor, *, into: str = "") -> None:
    """Raise ValueError where a value is not finite.

    Args:
        values: any shape.
        into: what they have been rounded to, for the text.
    """
    if wrong := int((~values.isfinite()).sum()):
        after = f" in {into}" if into else ""
        raise ValueError(
            f"{wrong} of {values.numel()} weights are NaN or infinite{after}; only finite ones can be rounded"
        )


def places_of(layer: SparseLinear) -> Places:
    """Return the places of a layer's entries, as narrow as its inputs allow."""
    places = layer.topology
    indices = places.column_indices.clone()
    if layer.in_features <= _MOST_NARROW:
        indices = indices.to(torch.uint16)
    return Places(places.row_pointers.clone(), indices)


def is_smaller(layer: SparseLinear, places: Places, *, bytes_each: int, bytes_an_output: int) -> bool:
    """Return whether a layer takes less memory than a dense one.

    Args:
        layer: with its dense size.
        places: of its entries.
        bytes_each: of a value.
        bytes_an_output: beside its values, such as a bias.
    """
    size = places.pointers.nbytes + places.indices.nbytes
    size += bytes_each * layer.num_active + bytes_an_output * layer.out_features
    return size < dense_bytes(layer)


def bias_of(layer: SparseLinear) -> Tensor:
    """Return the bias of a layer, zeros for none."""
    if layer.bias is None:
        return layer.values.detach().new_zeros(layer.out_features)
    return layer.bias.detach().clone()


def problem_with_places(indices: Any, pointers: Any, in_features: int) -> str | None:
    """Say what is wrong with the places of a state, or None.

    Args:
        indices: of the state; None if it does not bring them.
        pointers: of the state, or None.
        in_features: what indices have to stay below.
    """
    # torch has no least and largest of unsigned integers.
    indices = indices.long() if isinstance(indices, Tensor) else None
    if (problem := problem_with(indices, in_features, pointers)) or indices is None or not isinstance(pointers, Tensor):
        return problem
    ascends = indices.diff() > 0
    starts = pointers[(pointers > 0) & (pointers < indices.numel())].long()
    ascends[starts - 1] = True
    return None if bool(ascends.all()) else "places of an output must ascend, and none may come twice"
