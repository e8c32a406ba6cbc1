"""A linear layer whose weight is truly sparse: values and topology, nothing else."""

import math
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from gossamer import counts, topology
from gossamer.growth import fan_in_uniform_of
from gossamer.kernels import eager
from gossamer.kernels.activation import Activation
from gossamer.kernels.chain import Link
from gossamer.kernels.operands import Index, is_autocast
from gossamer.nn.parameter import drawn_on_cpu, set_data_
from gossamer.topology import Topology, Transpose

# column_pointers could be derived too; saved, they tell how many inputs the layer of a state has.
_SAVED = ("row_pointers", "column_indices", "column_pointers")
_DERIVED = ("row_indices", "permutation")


class SparseLinear(nn.Module):
    """Apply y = x W^T + b with a weight of which only the active entries exist, at a random topology.

    `values` is one plain parameter of shape [num_active], so optimizers, clipping, averaging, saving and
    compiling treat it as any other; the topology is kept in integer buffers. Inside, the batch is the fast axis: the
    result is a transposed view, element-wise layers keep its strides, and the next sparse layer finds its input in
    place.

    Args:
        in_features: size of the last axis of the input, >= 0.
        out_features: size of the last axis of the output, >= 0.
        sparsity: fraction of the weights that do not exist, in [0, 1); the count is exact, see `counts.num_active`.
        bias: whether to add a learned bias, shape [out_features], zero at first.
        generator: source of randomness for the topology and the first values, on the CPU.
        dtype: dtype of values and bias; default: torch's default.

    Input: [*, in_features], the dtype of the values (or any under autocast, where the product is float32).
    Output: [*, out_features].

    Attributes:
        values: the active weights, row by row, columns ascending, shape [num_active].
        row_pointers, column_indices: the topology in CSR, saved with the state.
        column_pointers: where each input's weights begin in its transpose, saved too.
        row_indices, permutation: the rest of the transpose, made again on loading.

    Raises:
        ValueError: a size is negative, or sparsity lies outside [0, 1).

    Example:
        >>> layer = SparseLinear(784, 100, sparsity=0.9, generator=torch.Generator().manual_seed(0))
        >>> layer.values.shape, layer(torch.zeros(32, 784)).shape
        (torch.Size([7840]), torch.Size([32, 100]))

    Source:
        Topology: Erdos-Renyi with an exact count, Mocanu et al. 2018, arXiv:1707.04780.
        First values: He et al. 2015, arXiv:1502.01852, uniform in +-sqrt(6 / fan_in).
        Differs: fan_in is the number of active inputs of each output, not in_features; with in_features the signal
        shrinks by the root of the density in each layer.

    Cost: memory O(num_active + in_features + out_features), 2 num_active flops per sample forward and 4 backward. A
        single sample of which fewer than one input in eight is not zero costs the weights of those alone; the others,
        were they infinite or NaN, are not looked at.
    """

    values: nn.Parameter
    bias: nn.Parameter | None
    row_pointers: Tensor
    column_indices: Tensor
    column_pointers: Tensor
    row_indices: Tensor
    permutation: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        sparsity: float,
        bias: bool = True,
        generator: torch.Generator,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        with drawn_on_cpu(self):
            shape = (out_features, in_features)
            active = counts.num_active(out_features * in_features, sparsity)
            places = topology.erdos_renyi(shape, active, generator=generator)
            values = fan_in_uniform_of(places.row_pointers, generator=generator)
            dtype = torch.get_default_dtype() if dtype is None else dtype
            self._build(places, values.to(dtype), torch.zeros(out_features, dtype=dtype) if bias else None)

    @classmethod
    def from_topology(cls, places: Topology, values: Tensor, bias: Tensor | None = None) -> Self:
        """Make a layer of given places and values.

        Args:
            places: which weights exist; shape (out_features, in_features).
            values: the active weights in the order of the topology, shape [num_active].
            bias: shape [out_features], or None.

        Raises:
            ValueError: the arrays of the topology are inconsistent, or a shape does not fit it.
        """
        topology.check_topology(places)
        if values.shape != (places.num_active,):
            raise ValueError(f"values have shape {tuple(values.shape)}, the topology needs ({places.num_active},)")
        if bias is not None and bias.shape != (places.shape[0],):
            raise ValueError(f"bias has shape {tuple(bias.shape)}, the layer needs ({places.shape[0]},)")
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        layer._build(places, values.detach().clone(), None if bias is None else bias.detach().clone())
        return layer

    @classmethod
    def from_dense(cls, linear: nn.Linear, *, mask: Tensor | None = None) -> Self:
        """Make the truly sparse layer that computes what `linear` computes.

        Args:
            linear: dense layer; it is left as it is.
            mask: bool, shape [out_features, in_features], the entries to keep, zeros among them too. Default: the
                entries that are not zero.

        Raises:
            ValueError: the mask has another shape.

        Example:
            >>> linear = nn.Linear(3, 2)
            >>> SparseLinear.from_dense(linear).num_active
            6
        """
        weight = linear.weight.detach()
        if mask is not None and mask.shape != weight.shape:
            raise ValueError(f"mask has shape {tuple(mask.shape)}, the weight {tuple(weight.shape)}; they must agree")
        places = topology.from_mask(weight if mask is None else mask)
        values = weight.flatten()[topology.linear_indices(places)]
        layer = cls.from_topology(places, values, linear.bias)
        layer.values.requires_grad_(linear.weight.requires_grad)
        if layer.bias is not None and linear.bias is not None:
            layer.bias.requires_grad_(linear.bias.requires_grad)
        return layer.train(linear.training)

    def to_dense(self) -> nn.Linear:
        """Return the dense layer that computes the same, zeros where no weight exists."""
        weight = self.values.new_zeros(self.out_features * self.in_features)
        weight[topology.linear_indices(self.topology)] = self.values.detach()
        linear = nn.utils.skip_init(nn.Linear, self.in_features, self.out_features, bias=self.bias is not None)
        linear.weight = nn.Parameter(weight.view(self.out_features, self.in_features), self.values.requires_grad)
        if self.bias is not None:
            linear.bias = nn.Parameter(self.bias.detach().clone(), self.bias.requires_grad)
        dense: nn.Linear = linear.train(self.training)
        return dense

    @property
    def topology(self) -> Topology:
        """Which weights exist."""
        return Topology((self.out_features, self.in_features), self.row_pointers, self.column_indices)

    @property
    def num_active(self) -> int:
        """Number of weights that exist, biases not counted."""
        return self.values.numel()

    @property
    def sparsity(self) -> float:
        """Fraction of the weights that do not exist."""
        return counts.sparsity_of(self.num_active, self.out_features * self.in_features)

    def replace_(self, places: Topology, values: Tensor) -> None:
        """Give the layer other active weights, in place: the parameter stays the same object.

        Args:
            places: which weights exist from now on. Of another shape the layer has other sizes; with another number
                of outputs whoever asks for it gives the bias its new length too, as `gossamer.neurons` does.
            values: their values, shape [num_active].

        Raises:
            ValueError: another number of values than places.
        """
        if values.shape != places.column_indices.shape:
            raise ValueError(f"{values.numel()} values for {places.num_active} active weights; they must agree")
        set_data_(self.values, values.detach().to(self.values.dtype, copy=True))
        self.out_features, self.in_features = places.shape
        self._set_topology(places)

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the layer; see the class for shapes."""
        if inputs.shape[-1:] != (self.in_features,):
            raise ValueError(
                f"input has shape {tuple(inputs.shape)}; its last axis must be in_features = {self.in_features}"
            )
        if is_autocast(inputs):
            inputs = inputs.to(self.values.dtype)
        if inputs.dim() == 2:
            return eager.linear(inputs, self.values, self.bias, self._index())
        flat = inputs.reshape(math.prod(inputs.shape[:-1]), self.in_features)
        outputs = eager.linear(flat, self.values, self.bias, self._index())
        return outputs.reshape(*inputs.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """Show sizes and sparsity."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"num_active={self.num_active}, sparsity={self.sparsity:.4g}"
        )

    def _build(self, places: Topology, values: Tensor, bias: Tensor | None) -> None:
        self.out_features, self.in_features = places.shape
        self.values = nn.Parameter(values, requires_grad=values.is_floating_point())
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias))
        for name in _SAVED:
            self.register_buffer(name, None)
        for name in _DERIVED:
            self.register_buffer(name, None, persistent=False)
        self._set_topology(places)

    def _set_topology(self, places: Topology) -> None:
        # Copied: a layer that shared them would be broken by loading a state into another.
        self.row_pointers, self.column_indices = (
            part.clone(memory_format=torch.contiguous_format) for part in (places.row_pointers, places.column_indices)
        )
        self._set_transpose(topology.transpose(places))

    def _set_transpose(self, transposed: Transpose) -> None:
        self.column_pointers, self.row_indices, self.permutation = transposed

    def link(self, activation: Activation | None) -> Link:
        """Return the layer with an activation behind it as `kernels.chain` takes it."""
        held: Any = self._parameters
        return Link(held["values"], held["bias"], self._index(), activation)

    def _index(self) -> Index:
        # Five attributes of a module, asked for one by one, cost as much as a small product.
        held: Any = self._buffers
        return (
            held["row_pointers"],
            held["column_indices"],
            held["column_pointers"],
            held["row_indices"],
            held["permutation"],
        )

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        # A state may hold another topology, and so another number of values, than this layer was born with.
        names = (*_SAVED, "values", "bias")
        *places, values, bias = (state_dict.get(prefix + name) for name in names)
        if any(part is not None for part in (*places, values)):
            problem = self._make_room(places[0], places[1], places[2], values, bias)
            if problem:
                error_msgs.append(f"{prefix}values: {problem}")
                return
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        if not self.row_pointers.is_meta:
            self._set_topology(self.topology)

    def _make_room(
        self, row_pointers: Any, column_indices: Any, column_pointers: Any, values: Any, bias: Any
    ) -> str | None:
        """Check an incoming state and size this layer's tensors for it; return what is wrong, if anything."""
        # Half a topology is no topology: with the other half of this layer's own it would point anywhere.
        if not all(isinstance(part, Tensor) for part in (row_pointers, column_indices, column_pointers, values)):
            return f"values, {', '.join(_SAVED)} must come together, each a tensor; save the layer again"
        if column_pointers.shape != self.column_pointers.shape:
            return f"of a layer with {column_pointers.numel() - 1} inputs, this one has {self.in_features}"
        try:
            topology.check_topology(Topology((self.out_features, self.in_features), row_pointers, column_indices))
        except ValueError as error:
            return str(error)
        if values.shape != column_indices.shape:
            return f"shape {tuple(values.shape)} for {column_indices.numel()} active weights"
        if isinstance(bias, Tensor) and self.bias is not None and bias.shape != self.bias.shape:
            return f"the bias beside them has shape {tuple(bias.shape)}, the layer needs {tuple(self.bias.shape)}"
        if values.shape != self.values.shape:
            set_data_(self.values, self.values.detach().new_empty(values.shape))
            self.column_indices = self.column_indices.new_empty(values.shape)
        return None
