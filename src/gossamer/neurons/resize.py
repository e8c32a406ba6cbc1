"""A hidden layer of another size: rows of one weight, columns of the other, the bias, and all state that goes along."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer.neurons.hidden import HiddenLayer, Linear
from gossamer.nn.parameter import set_data_
from gossamer.weights.resize import take
from gossamer.weights.state import move_state_
from gossamer.weights.undo import keep_parameter, on_failure


def resize_(hidden: HiddenLayer, neurons: Tensor, optimizer: Optimizer | None) -> None:
    """Give a hidden layer other neurons, in place: all parameters stay the same objects.

    Args:
        hidden: the layer.
        neurons: the number that each neuron had before, ascending, and -1 for new ones behind them, shape [units],
            int64. A new neuron has a bias of zero and no weights.
        optimizer: what holds state of the parameters: all that stays keeps its own, what is new has zeros.
    """
    neurons = neurons.to(hidden.weight.closed_rows.device)
    inputs = torch.arange(hidden.weight.shape[1], device=neurons.device)
    outputs = torch.arange(hidden.reader.shape[0], device=neurons.device)
    hidden.weight.resize_(neurons, inputs, optimizer)
    _resize_bias_(hidden.layer, neurons, optimizer)
    hidden.reader.resize_(outputs, neurons, optimizer)
    _set_sizes_(hidden.layer, hidden.weight.shape)
    _set_sizes_(hidden.reader_layer, hidden.reader.shape)


def _resize_bias_(layer: Linear, neurons: Tensor, optimizer: Optimizer | None) -> None:
    if layer.bias is not None:
        shape = layer.bias.shape
        keep_parameter(layer.bias)
        set_data_(layer.bias, take(layer.bias.detach(), neurons, 0))
        move_state_(optimizer, layer.bias, shape, lambda tensor: take(tensor, neurons, 0))


def _set_sizes_(layer: Linear, shape: tuple[int, ...]) -> None:
    # A truly sparse layer has them from its topology.
    if isinstance(layer, nn.Linear):
        before = layer.out_features, layer.in_features
        on_failure(lambda: _set_sizes_(layer, before))
        layer.out_features, layer.in_features = shape
