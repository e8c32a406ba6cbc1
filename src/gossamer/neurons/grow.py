"""Hidden neurons come into being, and the model goes on computing what it did."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer import counts, sampling
from gossamer.growth import fan_in_uniform
from gossamer.neurons.choose import as_numbers, hidden_layer
from gossamer.neurons.hidden import HiddenLayer, View
from gossamer.neurons.ranks import check_ranks
from gossamer.neurons.resize import resize_
from gossamer.weights import MaskedWeight


def grow_(
    model: nn.Module,
    name: str,
    *,
    num_neurons: int,
    generator: torch.Generator,
    num_inputs: int | None = None,
    num_outputs: int | None = None,
    weights: Sequence[View] | None = None,
    optimizer: Optimizer | None = None,
) -> None:
    """Add neurons to a hidden layer, at random places; what the model computes stays the same.

    Incoming weights are drawn uniformly in +-sqrt(6 / num_inputs), the bias is 0, and outgoing weights are 0, so that
    the first step moves these and the next ones the others. New weights start without optimizer state.

    Args:
        model: see `remove_dead_`.
        name: of the linear layer that leads into the neurons.
        num_neurons: how many, >= 1; they stand behind the others.
        generator: source of randomness, on the CPU.
        num_inputs: active weights that lead into each, in [1, in]. Default: as many as a neuron of the layer has, on
            average, rounded down.
        num_outputs: active weights that lead out of each, in [1, out]. Default: likewise.
        weights: see `remove_dead_`.
        optimizer: see `remove_dead_`.

    Raises:
        ValueError: a number out of range, or no such hidden layer, see `remove_dead_`.
        RuntimeError: the weights are truly sparse and several processes train together.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> grow_(model, "0", num_neurons=2, generator=torch.Generator())
        >>> model[0].out_features, model[2].weight[:, 3:].tolist()
        (5, [[0.0, 0.0], [0.0, 0.0]])
    """
    counts.check_positive(num_neurons, name="num_neurons")
    hidden = hidden_layer(model, name, weights)
    inputs = mean_fan_in(hidden) if num_inputs is None else num_inputs
    outputs = mean_fan_out(hidden) if num_outputs is None else num_outputs
    _check_number(inputs, hidden.weight.closed_columns, "num_inputs")
    _check_number(outputs, hidden.reader.closed_rows, "num_outputs")
    add_(hidden, num_neurons, num_inputs=inputs, num_outputs=outputs, generator=generator, optimizer=optimizer)
    check_ranks([hidden])


def split_(
    model: nn.Module,
    name: str,
    neurons: Tensor,
    *,
    generator: torch.Generator,
    weights: Sequence[View] | None = None,
    optimizer: Optimizer | None = None,
) -> None:
    """Double neurons of a hidden layer: each copy takes a part of the outgoing weights; the function stays the same.

    w_copy = w_in;  v_copy = (1 - u) v, v <- u v, u uniform in [0, 1) for each outgoing weight

    Args:
        model: see `remove_dead_`.
        name: of the linear layer that leads into the neurons.
        neurons: which: their numbers, shape [n], int64, or a mask, shape [units], bool. The copies stand behind all
            others, in the order of their originals.
        generator: source of randomness, on the CPU.
        weights: see `remove_dead_`.
        optimizer: see `remove_dead_`; copies start without state, originals keep theirs.

    Raises:
        ValueError: a number out of range, or no such hidden layer, see `remove_dead_`.
        RuntimeError: the weights are truly sparse and several processes train together.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> before = model(torch.ones(1, 4))
        >>> split_(model, "0", torch.tensor([1]), generator=torch.Generator())
        >>> model[0].out_features, torch.allclose(model(torch.ones(1, 4)), before)
        (4, True)

    Source:
        Chen, Goodfellow, Shlens. Net2Net: accelerating learning via knowledge transfer. ICLR 2016, arXiv:1511.05641.
        Differs: the parts are drawn for each outgoing weight, where the paper takes halves and breaks the tie of the
        copies by noise; so nothing changes, and no optimizer moves the two alike.
    """
    hidden = hidden_layer(model, name, weights)
    numbers = as_numbers(neurons, hidden)
    units = hidden.num_units
    copies = torch.full((units,), -1, device=numbers.device)
    copies[numbers] = torch.arange(units, units + numbers.numel(), device=numbers.device)
    incoming = _copied_rows(hidden.weight, copies)
    outgoing = _parted_columns_(hidden.reader, copies, units + numbers.numel(), generator)
    bias = None if hidden.layer.bias is None else hidden.layer.bias.detach()[numbers].clone()
    append_(hidden, numbers.numel(), optimizer)
    activate_(hidden.weight, *incoming, optimizer)
    activate_(hidden.reader, *outgoing, optimizer)
    if bias is not None and hidden.layer.bias is not None:
        hidden.layer.bias.data[units:] = bias
    check_ranks([hidden])


def add_(
    hidden: HiddenLayer,
    num_neurons: int,
    *,
    num_inputs: int,
    num_outputs: int,
    generator: torch.Generator,
    optimizer: Optimizer | None,
) -> None:
    """Add neurons at random places; see `grow_`."""
    device, units = hidden.weight.closed_rows.device, hidden.num_units
    append_(hidden, num_neurons, optimizer)
    neurons = torch.arange(units, units + num_neurons, device=device)[:, None]
    columns = _drawn(~hidden.weight.closed_columns, num_neurons, num_inputs, generator)
    fan_in = torch.full((units + num_neurons,), num_inputs, device=device)
    values = fan_in_uniform(neurons.expand_as(columns).flatten(), fan_in, generator=generator)
    activate_(hidden.weight, (neurons * hidden.weight.shape[1] + columns).flatten(), values, optimizer)
    rows = _drawn(~hidden.reader.closed_rows, num_neurons, num_outputs, generator)
    places = (rows * hidden.num_units + neurons).flatten()
    activate_(hidden.reader, places, torch.zeros(places.shape, device=device), optimizer)


def append_(hidden: HiddenLayer, num_neurons: int, optimizer: Optimizer | None) -> None:
    """Add neurons without weights behind the others."""
    old = torch.arange(hidden.num_units)
    resize_(hidden, torch.cat([old, old.new_full((num_neurons,), -1)]), optimizer)


def activate_(weight: View, places: Tensor, values: Tensor, optimizer: Optimizer | None) -> None:
    """Activate absent entries beside all that are active.

    Args:
        weight: of which.
        places: linear indices in any order, shape [n], int64.
        values: theirs, shape [n].
        optimizer: see `Weight.change_`.
    """
    places, order = places.sort()
    weight.change_(torch.arange(weight.num_active, device=places.device), places, values[order], optimizer)


def mean_fan_in(hidden: HiddenLayer) -> int:
    """Return how many active weights lead into a neuron, on average, rounded down; at least 1."""
    return max(1, hidden.weight.num_active // max(1, int((~hidden.weight.closed_rows).sum())))


def mean_fan_out(hidden: HiddenLayer) -> int:
    """Return how many active weights lead out of a neuron, on average, rounded down; at least 1."""
    return max(1, hidden.reader.num_active // max(1, int((~hidden.reader.closed_columns).sum())))


def _drawn(is_open: Tensor, num_neurons: int, count: int, generator: torch.Generator) -> Tensor:
    """Draw places among the open ones for each neuron: shape [num_neurons, count]."""
    places = is_open.nonzero().flatten()
    return places[sampling.distinct_in_rows(num_neurons, places.numel(), count, generator=generator).to(places.device)]


def _copied_rows(weight: View, copies: Tensor) -> tuple[Tensor, Tensor]:
    """Places and values of the incoming weights of the copies."""
    indices, width = weight.indices(), weight.shape[1]
    rows = copies[indices // max(1, width)]
    copied = rows >= 0
    return rows[copied] * width + indices[copied] % max(1, width), weight.values()[copied].clone()


def _parted_columns_(weight: View, copies: Tensor, units: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Leave a part of each outgoing weight to the original; return places and values of the other part."""
    indices, width = weight.indices(), weight.shape[1]
    columns = copies[indices % width]
    copied = columns >= 0
    values = weight.values()[copied]
    share = torch.rand(values.numel(), generator=generator, dtype=torch.float64, device="cpu").to(values.device)
    stays = (values.double() * share).to(values.dtype)
    if isinstance(weight, MaskedWeight):
        weight.parameter.data[indices[copied] // width, indices[copied] % width] = stays
    else:
        weight.parameter.data[copied] = stays
    return indices[copied] // width * units + columns[copied], values - stays


def _check_number(number: int, closed: Tensor, name: str) -> None:
    most = int((~closed).sum())
    if not 1 <= number <= most:
        raise ValueError(f"{name} must lie in [1, {most}], as so many places are open, got {number}")
