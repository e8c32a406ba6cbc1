"""The sequential program of Truly Sparse Neural Networks at Scale, made again from a description of what it does.

Curci, Mocanu, Pechenizkiy 2021, arXiv:2102.01732. What is described and done here: batch-major float64 activations;
products by scipy's CSR in one thread; the gradient of the weights by a compiled loop over them, each summing over the
batch; gradient, momentum and weights as sparse matrices that are built and added anew at every step; inverted dropout;
All-ReLU; momentum; a decay that is not multiplied by the learning rate, of biases too; after each pass but the last the
exchange of the weights nearest zero, found and grown by operations on sets of (row, column) pairs.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]
DROPOUT, MOMENTUM, DECAY, DROP_FRACTION = 0.3, 0.9, 2e-4, 0.3


class Layer(NamedTuple):
    """A layer: weight [inputs, outputs] in CSR, bias [outputs], and the momentum of both."""

    weight: sp.csr_array
    bias: Array
    weight_momentum: sp.csr_array
    bias_momentum: Array


def make(sizes: list[int], epsilon: float, rng: np.random.Generator, *, by_draws: bool) -> list[Layer]:
    """Make the network; `by_draws` cell by cell in Python, the only way for large layers, else by a dense matrix."""
    layers = []
    for inputs, outputs in pairwise(sizes):
        density = min(1.0, epsilon * (inputs + outputs) / (inputs * outputs))
        limit = np.sqrt(6.0 / inputs)
        if by_draws and density < 1.0:
            cells = sp.lil_array((inputs, outputs))
            for _ in range(int(epsilon * (inputs + outputs))):
                cells[rng.integers(inputs), rng.integers(outputs)] = 0.1 * rng.standard_normal()
            weight = cells.tocsr()
        else:
            chosen = rng.random((inputs, outputs)) >= 1.0 - density
            rows, columns = chosen.nonzero()
            values = rng.uniform(-limit, limit, rows.size)
            weight = sp.csr_array((values, (rows, columns)), shape=(inputs, outputs))
        still = sp.csr_array((np.zeros(weight.nnz, np.float32), weight.indices, weight.indptr), shape=weight.shape)
        layers.append(Layer(weight, np.zeros(outputs, np.float32), still, np.zeros(outputs, np.float32)))
    return layers


def forward(
    layers: list[Layer], inputs: Array, alpha: float, rng: np.random.Generator | None
) -> tuple[list[Array], ...]:
    """Return activations, the input first, and slopes and dropout factors of hidden layers; no `rng`: no dropout."""
    activations, slopes, kept = [inputs], [], []
    for depth, layer in enumerate(layers, start=1):
        before = activations[-1] @ layer.weight + layer.bias
        if depth == len(layers):
            shifted = np.exp(before - before.max(1, keepdims=True))
            activations.append(shifted / shifted.sum(1, keepdims=True))
            break
        slope = np.where(before > 0, 1.0, -alpha if depth % 2 else alpha)
        after = before * slope
        if rng is not None:
            kept.append((rng.random(after.shape) >= DROPOUT) / (1.0 - DROPOUT))
            after = after * kept[-1]
        slopes.append(slope)
        activations.append(after)
    return activations, slopes, kept


def step(
    layers: list[Layer], inputs: Array, wanted: Array, rate: float, alpha: float, rng: np.random.Generator
) -> list[Layer]:
    """Return the network after one step of momentum on one batch."""
    activations, slopes, kept = forward(layers, inputs, alpha, rng)
    delta = activations[-1] - wanted
    changed: list[Layer] = []
    for depth in reversed(range(len(layers))):
        weight, bias, weight_momentum, bias_momentum = layers[depth]
        places = weight.tocoo()
        slope_of = np.empty(weight.nnz, np.float32)
        _gradient(activations[depth], delta, places.row, places.col, slope_of)
        gradient = sp.csr_array((slope_of / len(inputs), (places.row, places.col)), shape=weight.shape)
        if depth:
            past = delta @ weight.T * slopes[depth - 1] * kept[depth - 1]
        weight_momentum = MOMENTUM * weight_momentum - rate * gradient
        bias_momentum = MOMENTUM * bias_momentum - rate * delta.mean(0)
        weight = weight + weight_momentum - DECAY * weight
        bias = bias + bias_momentum - DECAY * bias
        changed.append(Layer(weight, bias, weight_momentum, bias_momentum))
        delta = past if depth else delta
    return changed[::-1]


@njit(cache=True, nogil=True)
def _gradient(inputs: Array, delta: Array, rows: Array, columns: Array, result: Array) -> None:
    for k in range(rows.size):
        total = 0.0
        for sample in range(inputs.shape[0]):
            total += inputs[sample, rows[k]] * delta[sample, columns[k]]
        result[k] = total


def evolve(layers: list[Layer], rng: np.random.Generator) -> list[Layer]:
    """Exchange weights in every layer but the last."""
    return [_evolve(layer, rng) for layer in layers[:-1]] + layers[-1:]


def _evolve(layer: Layer, rng: np.random.Generator) -> Layer:
    places = layer.weight.tocoo()
    values = places.data
    ordered = np.sort(values)
    negative, positive = ordered[ordered < 0], ordered[ordered > 0]
    low = negative[int((1 - DROP_FRACTION) * negative.size) - 1] if negative.size else 0.0
    high = positive[int(DROP_FRACTION * positive.size)] if positive.size else 0.0
    stays = (values <= low) | (values >= high)
    inputs, outputs = layer.weight.shape
    rows, columns = places.row[stays], places.col[stays]
    pairs = _records(rows, columns)
    moments = layer.weight_momentum.tocoo()
    _, _, where = np.intersect1d(pairs, _records(moments.row, moments.col), assume_unique=True, return_indices=True)
    momentum = (moments.data[where], (moments.row[where], moments.col[where]))
    grown, missing = pairs[:0], int((~stays).sum())
    while grown.size < missing:
        some = 2 * (missing - grown.size) + 8
        fresh = _records(rng.integers(inputs, size=some), rng.integers(outputs, size=some))
        fresh = np.unique(np.concatenate([grown, fresh[~np.isin(fresh, pairs)]]))
        grown = rng.permutation(fresh)[:missing]
    limit = np.sqrt(6.0 / inputs)
    drawn = rng.uniform(-limit, limit, missing)
    rows, columns = np.concatenate([rows, grown["row"]]), np.concatenate([columns, grown["column"]])
    weight = sp.csr_array((np.concatenate([values[stays], drawn]), (rows, columns)), shape=layer.weight.shape)
    return Layer(weight, layer.bias, sp.csr_array(momentum, shape=weight.shape), layer.bias_momentum)


def _records(rows: Array, columns: Array) -> Array:
    records = np.empty(rows.size, [("row", np.int64), ("column", np.int64)])
    records["row"], records["column"] = rows, columns
    return records
