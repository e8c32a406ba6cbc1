"""Hidden neurons are removed for good: the layers become smaller, and every step faster."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer.neurons.choose import as_numbers, hidden_layer, hidden_layers
from gossamer.neurons.hidden import HiddenLayer, View
from gossamer.neurons.ranks import check_ranks
from gossamer.neurons.resize import resize_
from gossamer.weights import MaskedWeight, is_held
from gossamer.weights.undo import write_


def remove_(
    model: nn.Module,
    name: str,
    neurons: Tensor,
    *,
    weights: Sequence[View] | None = None,
    optimizer: Optimizer | None = None,
) -> None:
    """Remove neurons of one hidden layer, with all weights that lead to them and from them.

    What a neuron passes on that has no incoming weight is a constant, and is added to the bias of the layer that reads
    it, if that has one. All parameters stay the same objects, so that the optimizer goes on.

    Args:
        model: see `remove_dead_`.
        name: of the linear layer that leads into them.
        neurons: which go: their numbers, shape [n], int64, or a mask, shape [units], bool.
        weights: see `remove_dead_`.
        optimizer: see `remove_dead_`.

    Raises:
        ValueError: none would be left, a number is out of range, or no such hidden layer, see `remove_dead_`.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> remove_(model, "0", torch.tensor([1]))
        >>> model
        Sequential(
          (0): Linear(in_features=4, out_features=2, bias=True)
          (1): ReLU()
          (2): Linear(in_features=2, out_features=2, bias=True)
        )
    """
    hidden = hidden_layer(model, name, weights)
    gone = torch.zeros(hidden.num_units, dtype=torch.bool, device=hidden.weight.closed_rows.device)
    gone[as_numbers(neurons, hidden)] = True
    if bool(gone.all()):
        raise ValueError(f"all {hidden.num_units} neurons of {name} would go; a layer keeps one or more")
    fold_(hidden, gone & (_fan_in(hidden) == 0))
    resize_(hidden, (~gone).nonzero().flatten(), optimizer)
    check_ranks([hidden])


def remove_dead_(
    model: nn.Module, *, weights: Sequence[View] | None = None, optimizer: Optimizer | None = None
) -> None:
    """Remove all hidden neurons that do nothing; what the model computes stays the same.

    A neuron is dead that no active weight leads out of, or none into: then it passes on a constant, f(bias), which is
    added to the bias of the layer that reads it. Where that has none, the neuron stays unless the constant is 0. What
    dies with a neuron, before it or behind it, goes too. The input and the output of the model keep their sizes.

    Args:
        model: its linear layers dense, masked or truly sparse. In a dense layer that no sparsifier holds, zeros count
            as absent. Only layers change between which there are element-wise functions alone, that share nothing and
            are used once.
        weights: `sparsifier.weights`, while a sparsifier trains the model; its masks and closed rows follow.
        optimizer: that trains the model: momentum and the like stay with the weights, whatever its class.

    Raises:
        ValueError: no layer can change its size, or a sparsifier holds the weights and they were not given.
        TypeError: the model is wrapped in DistributedDataParallel.
        RuntimeError: processes that train together removed different neurons.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> model[0].weight.data[1], model[0].bias.data[1] = 0.0, 2.0
        >>> before = model(torch.ones(1, 4))
        >>> remove_dead_(model)
        >>> model[0].out_features, torch.allclose(model(torch.ones(1, 4)), before)
        (2, True)

    Cost: O(active weights) for each layer of a chain in which one neuron dies of another.
    """
    layers = hidden_layers(model, weights)
    for weight in {id(view): view for hidden in layers for view in (hidden.weight, hidden.reader)}.values():
        if isinstance(weight, MaskedWeight) and not is_held(weight) and weight not in (weights or []):
            weight.mask = weight.parameter.detach() != 0
    remove_all_dead_(layers, optimizer)
    check_ranks(layers)


def remove_all_dead_(layers: Sequence[HiddenLayer], optimizer: Optimizer | None) -> None:
    """Remove the dead neurons of some hidden layers, and what dies with them; see `remove_dead_`."""
    changed = True
    while changed:
        # There and back: constants die forwards, what nothing reads dies backwards.
        changed = any([_remove_dead_of(hidden, optimizer) for hidden in [*layers, *layers[::-1]]])


def fold_(hidden: HiddenLayer, neurons: Tensor) -> None:
    """Add what neurons pass on when nothing comes in to the bias of the layer that reads them, if it has one.

    bias <- bias + sum over the neurons j of W_j f(bias_j)

    Args:
        hidden: the layer.
        neurons: which, bool, shape [units].
    """
    bias = hidden.reader_layer.bias
    if bias is None or not bool(neurons.any()):
        return
    indices, width = hidden.reader.indices(), hidden.num_units
    constants = torch.where(neurons, hidden.constants().double(), 0.0)
    parts = hidden.reader.values().double() * constants[indices % width]
    write_(bias.data, bias.detach().double().index_add_(0, indices // width, parts).to(bias.dtype))


def _remove_dead_of(hidden: HiddenLayer, optimizer: Optimizer | None) -> bool:
    """Remove the dead neurons of one layer; return whether there were any."""
    unread = torch.bincount(hidden.reader.indices() % hidden.num_units, minlength=hidden.num_units) == 0
    constant = _fan_in(hidden) == 0
    if hidden.reader_layer.bias is None:
        constant &= hidden.constants() == 0
    gone = unread | constant
    if bool(gone.all()):
        gone[0] = False
    if not bool(gone.any()):
        return False
    fold_(hidden, gone & constant & ~unread)
    resize_(hidden, (~gone).nonzero().flatten(), optimizer)
    return True


def _fan_in(hidden: HiddenLayer) -> Tensor:
    """Number of active weights that lead into each neuron."""
    return torch.bincount(hidden.weight.indices() // max(1, hidden.weight.shape[1]), minlength=hidden.num_units)
