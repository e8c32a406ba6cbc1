"""Steps of recurrent layers in Numba: the sparse product and the gates of a unit in one go, the batch in registers.

Shapes: H = hidden features, O = G H gates in torch's order, B = batch, S = steps x batch, K = active weights. Arrays of
all steps are [features, S], so that products over all steps run along memory; what a step hands to the next is also
kept as [features, B], because rows that lie a power of two apart would push each other out of the cache.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from numba import carray, njit
from torch import Tensor

from gossamer.kernels import threads
from gossamer.kernels.blocks import OPTIONS, TASK, next_block
from gossamer.kernels.panels import chunk_width
from gossamer.kernels.simd import (
    CHUNK_BYTES,
    claim,
    load,
    load_first,
    multiply_add,
    pointer,
    splat,
    store,
    store_first,
)
from gossamer.kernels.simd_math import (
    add,
    constant,
    multiply,
    prefetch,
    sigmoid,
    subtract,
    tanh,
    where_positive,
)

RNN_TANH, RNN_RELU, GRU, LSTM = range(4)
# Rows of `gates` that a step keeps for the backward pass, for each unit.
KEPT = (0, 0, 4, 4)

# The gates of a unit are in registers at once: wider tiles would not fit.
_WIDEST = 4
# Units that a thread takes at once: a cache line of each sample's neighbours, and enough blocks for all threads.
UNITS = 32
# How many units before it is needed a tile is asked for.
_AHEAD = 4


@njit(**OPTIONS)
def load_part(array, row, column, width, lanes, count):
    """Load a tile, or the `count` lanes of it that exist."""
    if count >= lanes:
        return load(array, row, column, width)
    return load_first(array, row, column, width, count)


@njit(**OPTIONS)
def store_part(array, row, column, tile, lanes, count):
    """Store a tile, or the `count` lanes of it that exist."""
    if count >= lanes:
        store(array, row, column, tile)
    else:
        store_first(array, row, column, tile, count)


@njit(**OPTIONS)
def row_product(pointers, indices, values, first, row, x_FB, column, width, lanes, count):
    """Return `first` + row W[row] x, for the samples from `column` on."""
    # Two sums, so that one need not wait for the other; unsigned, so that Numba looks for no negative index.
    total, other = first, constant(first, 0.0)
    start, stop = np.uint64(pointers[row]), np.uint64(pointers[row + 1])
    even = start + (stop - start) // np.uint64(2) * np.uint64(2)
    if count >= lanes:
        for slot in range(start, even, np.uint64(2)):
            after = slot + np.uint64(1)
            total = multiply_add(splat(values[slot], width), load(x_FB, indices[slot], column, width), total)
            other = multiply_add(splat(values[after], width), load(x_FB, indices[after], column, width), other)
        if even < stop:
            total = multiply_add(splat(values[even], width), load(x_FB, indices[even], column, width), total)
    else:
        for slot in range(start, stop):
            part = load_first(x_FB, indices[slot], column, width, count)
            total = multiply_add(splat(values[slot], width), part, total)
    total = add(total, other)
    return total


@njit(**OPTIONS)
def ask_ahead(array, unit, units, column, lanes):
    """Prefetch a tile of each gate of a unit to come: rows lie a page apart, where the processor does not guess."""
    line = 64 // array.itemsize
    for row in range(unit + _AHEAD, array.shape[0], units):
        for part in range(column, column + lanes, line):
            prefetch(array, row, part)


@njit(**OPTIONS)
def _forward_rnn(weight, projected, arrays, kind, width, lanes, at, start, stop):
    pointers, indices, values, bias = weight
    h_HB, next_HB, y_HS = arrays[0], arrays[1], arrays[2]
    batch = h_HB.shape[1]
    for column in range(0, batch, lanes):
        count = batch - column
        for unit in range(start, stop):
            ask_ahead(projected, unit, projected.shape[0], at + column, lanes)
            ask_ahead(y_HS, unit, projected.shape[0], at + column, lanes)
            first = add(splat(bias[unit], width), load_part(projected, unit, at + column, width, lanes, count))
            total = row_product(pointers, indices, values, first, unit, h_HB, column, width, lanes, count)
            h = tanh(total) if kind == RNN_TANH else where_positive(total, total)
            store_part(next_HB, unit, column, h, lanes, count)
            store_part(y_HS, unit, at + column, h, lanes, count)


@njit(**OPTIONS)
def _forward_gru(weight, projected, arrays, width, lanes, at, start, stop):
    pointers, indices, values, bias = weight
    h_HB, next_HB, y_HS, gates = arrays[0], arrays[1], arrays[2], arrays[3]
    units, batch = h_HB.shape
    for column in range(0, batch, lanes):
        count = batch - column
        for unit in range(start, stop):
            row = unit
            ask_ahead(projected, unit, units, at + column, lanes)
            ask_ahead(y_HS, unit, units, at + column, lanes)
            first = add(splat(bias[row], width), load_part(projected, row, at + column, width, lanes, count))
            reset = sigmoid(row_product(pointers, indices, values, first, row, h_HB, column, width, lanes, count))
            store_part(gates, row, column, reset, lanes, count)
            row += units
            first = add(splat(bias[row], width), load_part(projected, row, at + column, width, lanes, count))
            keep = sigmoid(row_product(pointers, indices, values, first, row, h_HB, column, width, lanes, count))
            store_part(gates, row, column, keep, lanes, count)
            row += units
            first = splat(bias[row], width)
            inner = row_product(pointers, indices, values, first, row, h_HB, column, width, lanes, count)
            store_part(gates, row + units, column, inner, lanes, count)
            new = tanh(multiply_add(reset, inner, load_part(projected, row, at + column, width, lanes, count)))
            store_part(gates, row, column, new, lanes, count)
            h = multiply_add(keep, subtract(load_part(h_HB, unit, column, width, lanes, count), new), new)
            store_part(next_HB, unit, column, h, lanes, count)
            store_part(y_HS, unit, at + column, h, lanes, count)


@njit(**OPTIONS)
def _forward_lstm(weight, projected, arrays, width, lanes, at, start, stop):
    pointers, indices, values, bias = weight
    h_HB, next_HB, y_HS, gates, c_HB, next_c_HB = arrays
    units, batch = h_HB.shape
    for column in range(0, batch, lanes):
        count = batch - column
        for unit in range(start, stop):
            row = unit
            ask_ahead(projected, unit, units, at + column, lanes)
            ask_ahead(y_HS, unit, units, at + column, lanes)
            first = add(splat(bias[row], width), load_part(projected, row, at + column, width, lanes, count))
            enter = sigmoid(row_product(pointers, indices, values, first, row, h_HB, column, width, lanes, count))
            store_part(gates, row, column, enter, lanes, count)
            row += units
            first = add(splat(bias[row], width), load_part(projected, row, at + column, width, lanes, count))
            keep = sigmoid(row_product(pointers, indices, values, first, row, h_HB, column, width, lanes, count))
            store_part(gates, row, column, keep, lanes, count)
            row += units
            first = add(splat(bias[row], width), load_part(projected, row, at + column, width, lanes, count))
            new = tanh(row_product(pointers, indices, values, first, row, h_HB, column, width, lanes, count))
            store_part(gates, row, column, new, lanes, count)
            c = multiply_add(keep, load_part(c_HB, unit, column, width, lanes, count), multiply(enter, new))
            store_part(next_c_HB, unit, column, c, lanes, count)
            row += units
            first = add(splat(bias[row], width), load_part(projected, row, at + column, width, lanes, count))
            leave = sigmoid(row_product(pointers, indices, values, first, row, h_HB, column, width, lanes, count))
            store_part(gates, row, column, leave, lanes, count)
            h = multiply(leave, tanh(c))
            store_part(next_HB, unit, column, h, lanes, count)
            store_part(y_HS, unit, at + column, h, lanes, count)


@cache
def _forward_task(kind, real, integer, width):
    """Compile the task of one step; its data: see `forward_step`."""
    lanes = len(width) * CHUNK_BYTES // np.dtype(real).itemsize
    num_gates = (1, 1, 3, 4)[kind]

    @TASK
    def task(data):
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        units, active, batch, total, at = numbers[11], numbers[12], numbers[13], numbers[14], numbers[15]
        weight = (
            carray(pointer(numbers[0]), num_gates * units + 1, integer),
            carray(pointer(numbers[1]), active, integer),
            carray(pointer(numbers[2]), active, real),
            carray(pointer(numbers[3]), num_gates * units, real),
        )
        projected = carray(pointer(numbers[4]), (num_gates * units, total), real)
        arrays = (
            carray(pointer(numbers[5]), (units, batch), real),
            carray(pointer(numbers[6]), (units, batch), real),
            carray(pointer(numbers[7]), (units, total), real),
            carray(pointer(numbers[8]), (4 * units, batch), real),
            carray(pointer(numbers[9]), (units, batch), real),
            carray(pointer(numbers[10]), (units, batch), real),
        )
        mine = claim(data, 0)
        block = next_block(data, mine)
        while block >= 0:
            start, stop = block * UNITS, min((block + 1) * UNITS, units)
            if kind == LSTM:
                _forward_lstm(weight, projected, arrays, width, lanes, at, start, stop)
            elif kind == GRU:
                _forward_gru(weight, projected, arrays, width, lanes, at, start, stop)
            else:
                _forward_rnn(weight, projected, arrays, kind, width, lanes, at, start, stop)
            block = next_block(data, mine)

    return task.address


# What the autograd function calls: contiguous tensors on the CPU, addresses of them where a step has a part of one.


def forward_step(
    kind: int, like: Tensor, integer: torch.dtype, addresses: tuple[int, ...], sizes: tuple[int, ...]
) -> None:
    """Advance all units by one step.

    Args:
        kind: RNN_TANH, RNN_RELU, GRU or LSTM.
        like: any tensor of the dtype of the values.
        integer: dtype of the topology.
        addresses: of row pointers, column indices, values, bias, what the inputs of all steps give [O, S], hidden
            state before and after [H, B], hidden states of all steps [H, S], kept gates [4 H, B], cell state before
            and after [H, B].
        sizes: H, K, B, S and the first column of the step.
    """
    launch(_forward_task, kind, like, integer, (*addresses, *sizes), sizes)


def launch(
    make: Callable[..., int],
    kind: int,
    like: Tensor,
    integer: torch.dtype,
    numbers: tuple[int, ...],
    sizes: tuple[int, ...],
) -> None:
    """Run the task of one step, units by units.

    Args:
        make: compiles the task.
        kind: RNN_TANH, RNN_RELU, GRU or LSTM.
        like: any tensor of the dtype of the values.
        integer: dtype of the topology.
        numbers: the task's own.
        sizes: H first, B third.
    """
    width = chunk_width(sizes[2], like.element_size())[:_WIDEST]
    task = make(kind, NUMPY[like.dtype], NUMPY[integer], width)
    threads.run(task, numbers, num_blocks=-(-sizes[0] // UNITS))


NUMPY = {torch.float32: np.float32, torch.float64: np.float64, torch.int32: np.int32, torch.int64: np.int64}
