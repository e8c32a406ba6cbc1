"""Neurons that join the inputs and the outputs which the loss would join by the gradient."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.optim import Optimizer

from gossamer import growth
from gossamer.neurons.grow import activate_, append_
from gossamer.neurons.hidden import HiddenLayer
from gossamer.weights.recorded import bridge_tile
from gossamer.weights.tiles import over_ranks, tiles

Pairs = list[tuple[Tensor, Tensor]]


def bridge_(hidden: HiddenLayer, num_neurons: int, *, num_pairs: int, optimizer: Optimizer | None) -> None:
    """Add neurons to a hidden layer that join its inputs n and the outputs m of its reader where |G_mn| is largest.

    G_mn = sum over samples of dL/du_m x_n;  w_n = sum over the pairs of n of sgn(G_mn) sqrt(|G_mn|)

    x are the inputs of the layer, u what its reader puts out. The best num_neurons * num_pairs pairs, ties to the lower
    place, are dealt out in the order of their size, one to each neuron in turn. Incoming weights are scaled to the mean
    magnitude of the layer's; outgoing weights are 0, and so is the bias: what the model computes stays the same.

    Args:
        hidden: both its weights were watched in the last backward pass, see `Weight.watch`.
        num_neurons: how many, >= 1.
        num_pairs: pairs that each joins, >= 1.
        optimizer: see `remove_dead_`.

    Raises:
        RuntimeError: no backward pass was seen.
        ValueError: the gradient holds NaN, or there are fewer pairs.

    Source:
        Dai, Yin, Jha. NeST: a neural network synthesis tool based on a grow-and-prune paradigm. IEEE Transactions on
        Computers 2019, arXiv:1711.02017.
        Differs: outgoing weights are 0, not +-sqrt(|G|), so that the function does not jump; a count of pairs in place
        of a share of them.

    Cost: O(in * out * samples) time, one tile of G in memory.
    """
    pairs = _pairs(hidden)
    best = growth.gradient(
        _tiles(hidden, pairs),
        torch.empty(0, dtype=torch.int64, device=hidden.weight.closed_rows.device),
        hidden.reader.closed_rows,
        hidden.weight.closed_columns,
        count=num_neurons * num_pairs,
    )
    width = hidden.weight.shape[1]
    gradient = over_ranks(sum_at(pairs, best // width, best % width))
    order = gradient.abs().argsort(descending=True, stable=True)
    neurons = torch.empty_like(best)
    neurons[order] = torch.arange(len(best), device=best.device) % num_neurons
    units = hidden.num_units
    typical = hidden.weight.values().abs().double().mean() if hidden.weight.num_active else torch.tensor(1.0)
    append_(hidden, num_neurons, optimizer)
    incoming, slots = ((units + neurons) * width + best % width).unique(return_inverse=True)
    values = _strengths(gradient.double(), slots, len(incoming))
    values = values * typical / values.abs().mean().clamp(min=torch.finfo(torch.float64).tiny)
    activate_(hidden.weight, incoming, values.to(hidden.weight.parameter.dtype), optimizer)
    outgoing = (best // width * hidden.num_units + units + neurons).unique()
    activate_(hidden.reader, outgoing, torch.zeros(outgoing.shape, device=outgoing.device), optimizer)


def sum_at(pairs: Pairs, rows: Tensor, columns: Tensor) -> Tensor:
    """Return G at some places, shape [n]; O(samples * n) a call."""
    parts = [(grads[:, rows] * inputs[:, columns]).sum(0) for inputs, grads in pairs]
    return torch.stack(parts).sum(0)


def _pairs(hidden: HiddenLayer) -> Pairs:
    # Backward passes meet the calls of both layers in the same order.
    calls = zip(hidden.weight.seen(), hidden.reader.seen(), strict=True)
    return [(inputs, grads) for (inputs, _), (_, grads) in calls]


def _tiles(hidden: HiddenLayer, pairs: Pairs) -> Iterator[tuple[int, Tensor]]:
    rows, columns = hidden.reader.shape[0], hidden.weight.shape[1]
    for tile in tiles(rows, columns, itemsize=pairs[0][0].element_size()):
        yield tile.start * columns + tile.left, over_ranks(bridge_tile(pairs, tile))


def _strengths(gradient: Tensor, slots: Tensor, size: int) -> Tensor:
    """Sum sgn(G) sqrt(|G|) over the pairs of each incoming weight; where G is zero, as if it were tiny."""
    root = gradient.abs().clamp(min=torch.finfo(torch.float64).tiny).sqrt()
    return torch.zeros(size, dtype=torch.float64, device=gradient.device).index_add_(
        0, slots, torch.where(gradient < 0, -root, root)
    )
