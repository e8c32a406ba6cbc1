"""What sparse convolutions share: their tensors, and loading a state of another topology."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gossamer import counts, topology
from gossamer.growth import fan_in_uniform_of
from gossamer.kernels import conv_on_cpu
from gossamer.kernels.operands import Index
from gossamer.nn.parameter import set_data_
from gossamer.topology import Topology

# weight_shape tells apart weights of different shape that have the same matrix.
_SAVED = ("row_pointers", "column_indices", "weight_shape")
_DERIVED = ("channel_pointers", "channel_indices", "permutation")


def build_(layer: nn.Module, places: Topology, values: Tensor, bias: Tensor | None, shape: tuple[int, ...]) -> None:
    """Register parameters and buffers of a new layer.

    Args:
        layer: has `window` already.
        places: topology of the weight as a matrix.
        values: shape [num_active].
        bias: shape [out_channels], or None.
        shape: of the dense weight.
    """
    layer.register_parameter("values", nn.Parameter(values, requires_grad=values.is_floating_point()))
    layer.register_parameter("bias", None if bias is None else nn.Parameter(bias))
    for name in _SAVED:
        layer.register_buffer(name, None)
    for name in _DERIVED:
        layer.register_buffer(name, None, persistent=False)
    layer.weight_shape = torch.tensor(shape, device=values.device)
    set_topology_(layer, places)


def set_topology_(layer: Any, places: Topology) -> None:
    """Give a layer other places; its values are left as they are."""
    # Copied: a layer that shared them would be broken by loading a state into another.
    layer.row_pointers, layer.column_indices = (
        part.clone(memory_format=torch.contiguous_format) for part in (places.row_pointers, places.column_indices)
    )
    ordered = conv_on_cpu.by_channel(places, layer.window)
    layer.channel_pointers, layer.channel_indices, layer.permutation = ordered


def index(layer: Any) -> Index:
    """Return the topology as the kernels take it."""
    return (
        layer.row_pointers,
        layer.column_indices,
        layer.channel_pointers,
        layer.channel_indices,
        layer.permutation,
    )


def replace_(layer: Any, places: Topology, values: Tensor) -> None:
    """Give a layer other active weights, in place: the parameter stays the same object.

    Raises:
        ValueError: another number of values than places, or a topology of another shape.
    """
    if values.shape != places.column_indices.shape:
        raise ValueError(f"{values.numel()} values for {places.num_active} active weights; they must agree")
    if tuple(places.shape) != tuple(layer.topology.shape):
        raise ValueError(f"the topology is {places.shape}, the layer needs {layer.topology.shape}")
    set_data_(layer.values, values.detach().to(layer.values.dtype, copy=True))
    set_topology_(layer, places)


def make_room_(layer: Any, state: Mapping[str, Any], prefix: str) -> str | None:
    """Check an incoming state and size the layer's tensors for it.

    A state may hold another topology, and so another number of values, than the layer was born with.

    Args:
        layer: what is loaded into.
        state: a state_dict.
        prefix: of the layer's names in it.

    Returns:
        What is wrong, or None.
    """
    names = (*_SAVED, "values", "bias")
    row_pointers, column_indices, shape, values, bias = (state.get(prefix + name) for name in names)
    parts = (row_pointers, column_indices, shape, values)
    if all(part is None for part in parts):
        return None
    # Half a topology is no topology: with the other half of this layer's own it would point anywhere.
    if not all(isinstance(part, Tensor) for part in parts):
        return f"values, {', '.join(_SAVED)} must come together, each a tensor; save the layer again"
    return _make_room_(layer, *parts, bias)  # type: ignore[arg-type]


def _make_room_(
    layer: Any, row_pointers: Tensor, column_indices: Tensor, shape: Tensor, values: Tensor, bias: Any
) -> str | None:
    if shape.tolist() != list(layer.dense_shape):
        return f"of a weight of shape {tuple(shape.tolist())}, this layer's is {layer.dense_shape}"
    try:
        topology.check_topology(Topology(layer.topology.shape, row_pointers, column_indices))
    except ValueError as error:
        return str(error)
    if values.shape != column_indices.shape:
        return f"shape {tuple(values.shape)} for {column_indices.numel()} active weights"
    if isinstance(bias, Tensor) and layer.bias is not None and bias.shape != layer.bias.shape:
        return f"the bias beside them has shape {tuple(bias.shape)}, the layer needs {tuple(layer.bias.shape)}"
    if values.shape != layer.values.shape:
        set_data_(layer.values, layer.values.detach().new_empty(values.shape))
        layer.column_indices = layer.column_indices.new_empty(values.shape)
    return None


def draw(shape: tuple[int, ...], sparsity: float, *, generator: torch.Generator) -> tuple[Topology, Tensor]:
    """Return random places of a weight of this shape, and their first values.

    Raises:
        ValueError: sparsity lies outside [0, 1).
    """
    matrix = (shape[0], math.prod(shape[1:]))
    places = topology.erdos_renyi(matrix, counts.num_active(math.prod(shape), sparsity), generator=generator)
    return places, fan_in_uniform_of(places.row_pointers, generator=generator)


def places_of(weight: Tensor, mask: Tensor | None) -> tuple[Topology, Tensor]:
    """Return the places and values of a dense weight that stay.

    Args:
        weight: dense, [out_channels, ...].
        mask: bool, same shape, True = active. Default: the entries that are not zero.

    Raises:
        ValueError: the mask has another shape.
    """
    if mask is not None and mask.shape != weight.shape:
        raise ValueError(f"mask has shape {tuple(mask.shape)}, the weight {tuple(weight.shape)}; they must agree")
    places = topology.from_mask((weight if mask is None else mask).flatten(1))
    return places, weight.detach().flatten()[topology.linear_indices(places)]


def to_weight(layer: Any) -> Tensor:
    """Return the dense weight, zeros where none exists."""
    weight: Tensor = layer.values.new_zeros(math.prod(layer.dense_shape))
    weight[topology.linear_indices(layer.topology)] = layer.values.detach()
    return weight.view(layer.dense_shape)


def take_(layer: Any, conv: Any, mask: Tensor | None) -> None:
    """Build a layer of the weights of a dense one: a layer that has its sizes and nothing else.

    Args:
        layer: what is built.
        conv: the dense convolution.
        mask: bool, shape of its weight, True = active. Default: the entries that are not zero.
    """
    places, values = places_of(conv.weight, mask)
    bias = None if conv.bias is None else conv.bias.detach().clone()
    build_(layer, places, values.clone(), bias, layer.dense_shape)
    layer.values.requires_grad_(conv.weight.requires_grad)
    if layer.bias is not None:
        layer.bias.requires_grad_(conv.bias.requires_grad)
    layer.train(conv.training)


def give_(layer: Any, conv: Any) -> None:
    """Give a dense convolution of the same sizes the weights of a layer."""
    conv.weight = nn.Parameter(to_weight(layer), layer.values.requires_grad)
    if layer.bias is not None:
        conv.bias = nn.Parameter(layer.bias.detach().clone(), layer.bias.requires_grad)
    conv.train(layer.training)
