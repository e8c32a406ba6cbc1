"""The weights of sparse recurrent layers and cells: first values, and conversion from and to torch's."""

import math
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gossamer import counts, topology
from gossamer.kernels import gates
from gossamer.nn.parameter import drawn_on_cpu
from gossamer.nn.sparse_linear import SparseLinear


class Cell(Protocol):
    """What a cell is to the functions here and in `recurrent_cell`: a module with these attributes."""

    input_size: int
    hidden_size: int
    bias: bool
    training: bool

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """As of nn.Module."""

    def get_submodule(self, target: str) -> nn.Module:
        """As of nn.Module."""

    def to(self, device: torch.device, /) -> Any:
        """As of nn.Module."""

    def train(self, mode: bool = True) -> Any:
        """As of nn.Module."""


class Layer(Cell, Protocol):
    """What a layer is to the functions here: a module with these attributes."""

    num_layers: int
    batch_first: bool
    dropout: float
    bidirectional: bool


def draw(
    out_features: int,
    in_features: int,
    hidden_size: int,
    *,
    sparsity: float,
    bias: bool,
    generator: torch.Generator,
    dtype: torch.dtype | None,
) -> SparseLinear:
    """Make a weight of a recurrent layer at random places.

    Values are uniform in +-sqrt(in_features / live fan-in) / sqrt(hidden_size), biases in +-1 / sqrt(hidden_size): the
    scale of the signal is that of torch's dense layer.

    Args:
        out_features: gates times hidden features.
        in_features: of the input or of the hidden state.
        hidden_size: hidden features.
        sparsity: fraction of the weight that does not exist, in [0, 1).
        bias: whether there is a bias.
        generator: source of randomness, on the CPU.
        dtype: of values and bias; default: torch's default.
    """
    shape = (out_features, in_features)
    places = topology.erdos_renyi(shape, counts.num_active(math.prod(shape), sparsity), generator=generator)
    live = places.row_pointers.diff().clamp(min=1)[topology.row_indices(places)]
    dtype = torch.get_default_dtype() if dtype is None else dtype
    values = _uniform(places.num_active, hidden_size, generator) * (in_features / live.double()).sqrt()
    first = _uniform(out_features, hidden_size, generator).to(dtype) if bias else None
    return SparseLinear.from_topology(places, values.to(dtype), first)


def _uniform(count: int, hidden_size: int, generator: torch.Generator) -> Tensor:
    unit = torch.rand(count, generator=generator, dtype=torch.float64, device="cpu")
    return (2.0 * unit - 1.0) / math.sqrt(max(hidden_size, 1))


def from_dense(weight: Tensor, bias: Tensor | None, mask: Tensor | None, *, name: str) -> SparseLinear:
    """Make a sparse weight from a dense parameter and its bias.

    Args:
        weight: shape [out, in]; it is left as it is.
        bias: shape [out], or None.
        mask: bool, shape [out, in], the entries to keep, or None for those that are not zero.
        name: what an error calls the weight.

    Raises:
        ValueError: the mask has another shape.
    """
    linear = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.detach(), weight.requires_grad)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach(), bias.requires_grad)
    try:
        return SparseLinear.from_dense(linear, mask=mask)
    except ValueError as error:
        error.add_note(f"of {name}")
        raise


def check_masks(masks: Mapping[str, Tensor] | None, dense: nn.Module) -> Mapping[str, Tensor]:
    """Return the masks, none if there are none.

    Args:
        masks: by the name of the parameter, such as "weight_hh_l0"; a weight without one keeps what is not zero.
        dense: the layer they are for.

    Raises:
        ValueError: a name that is no weight of the layer.
    """
    weights = [name for name, _ in dense.named_parameters() if name.startswith("weight_")]
    for name in masks or {}:
        if name not in weights:
            raise ValueError(f"masks name {name!r}; the layer's weights are {', '.join(weights)}")
    return masks or {}


def names(num_layers: int, bidirectional: bool) -> list[tuple[str, str]]:
    """Return, for each layer and direction in torch's order, the ends of our names and of torch's.

    Args:
        num_layers: layers on one another.
        bidirectional: whether each goes both ways.

    Example:
        >>> names(1, True)
        [('0', 'l0'), ('0_reverse', 'l0_reverse')]
    """
    ways = ("", "_reverse") if bidirectional else ("",)
    return [(f"{layer}{way}", f"l{layer}{way}") for layer in range(num_layers) for way in ways]


def fill_(layer: Layer, kind: gates.Kind, *, sparsity: float, generator: torch.Generator, dtype: Any) -> None:
    """Give a layer its weights, `input_0`, `hidden_0` and so on.

    Args:
        layer: has the sizes of its constructor as attributes.
        kind: which equations.
        sparsity: fraction of each weight that does not exist.
        generator: source of randomness, on the CPU.
        dtype: of the values.

    Raises:
        ValueError: a size or the dropout makes no sense.
    """
    size, hidden, num_layers = layer.input_size, layer.hidden_size, layer.num_layers
    if size < 1 or hidden < 1 or num_layers < 1:
        raise ValueError(f"input_size is {size}, hidden_size {hidden}, num_layers {num_layers}; each must be 1 or more")
    counts.check_fraction(layer.dropout, name="dropout")
    ways = 2 if layer.bidirectional else 1
    with drawn_on_cpu(layer):
        for place, (end, _) in enumerate(names(num_layers, layer.bidirectional)):
            columns = size if place < ways else ways * hidden
            for part, width in (("input", columns), ("hidden", hidden)):
                weight = draw(
                    gates.GATES[kind] * hidden, width, hidden,
                    sparsity=sparsity, bias=layer.bias, generator=generator, dtype=dtype,
                )  # fmt: skip
                layer.add_module(f"{part}_{end}", weight)


def take_(layer: Layer, dense: nn.RNNBase, masks: Mapping[str, Tensor] | None) -> None:
    """Give a layer the weights of a dense one.

    Args:
        layer: has no weights yet.
        dense: torch's layer; it is left as it is.
        masks: by parameter name, or None.

    Raises:
        ValueError: the dense layer projects its hidden state, or masks do not fit.
    """
    if dense.proj_size:
        raise ValueError(f"proj_size is {dense.proj_size}; a sparse layer has no projection: make the dense one with 0")
    known = check_masks(masks, dense)
    for name in ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional"):
        setattr(layer, name, getattr(dense, name))
    for end, theirs in names(dense.num_layers, dense.bidirectional):
        for part, short in (("input", "ih"), ("hidden", "hh")):
            name = f"weight_{short}_{theirs}"
            bias = getattr(dense, f"bias_{short}_{theirs}") if dense.bias else None
            layer.add_module(f"{part}_{end}", from_dense(getattr(dense, name), bias, known.get(name), name=name))
    layer.train(dense.training)


def give_(layer: Layer, dense: nn.RNNBase) -> None:
    """Give a dense layer of the same sizes the weights of a sparse one, zeros where none exists.

    Args:
        layer: sparse layer.
        dense: torch's layer, whose parameters are replaced.
    """
    for end, theirs in names(dense.num_layers, dense.bidirectional):
        for part, short in (("input", "ih"), ("hidden", "hh")):
            linear = dense_of(layer.get_submodule(f"{part}_{end}"))
            setattr(dense, f"weight_{short}_{theirs}", linear.weight)
            if dense.bias:
                setattr(dense, f"bias_{short}_{theirs}", linear.bias)
    dense.train(layer.training)


def dense_of(weight: nn.Module) -> nn.Linear:
    """Return a weight as a dense layer, which it may be already.

    Args:
        weight: SparseLinear or nn.Linear.
    """
    assert isinstance(weight, (SparseLinear, nn.Linear))  # noqa: S101
    return weight.to_dense() if isinstance(weight, SparseLinear) else weight


def options_of(layer: Layer) -> dict[str, Any]:
    """Return what torch's constructor takes beside the sizes.

    Args:
        layer: sparse layer.
    """
    names = ("num_layers", "bias", "batch_first", "dropout", "bidirectional")
    return {name: getattr(layer, name) for name in names}


def describe(layer: Layer) -> str:
    """Return sizes and options as torch shows them.

    Args:
        layer: sparse layer.
    """
    parts = [f"{layer.input_size}, {layer.hidden_size}"]
    default = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False}
    parts += [f"{name}={value}" for name, value in options_of(layer).items() if value != default[name]]
    return ", ".join(parts)
