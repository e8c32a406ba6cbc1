"""Steps of recurrent layers in Numba: the sparse product and the gates of a unit in one go, the batch in registers.

Shapes: H = hidden features, O = G H gates in torch's order, B = batch, S = steps x batch, K = active weights. Arrays of
all steps are [features, S], so that products over all steps run along memory; what a step hands to the next is also
kept as [features, B], because rows that lie a power of two apart would push each other out of the cache.
"""

from functools import cache

import numpy as np
import torch
from numba import carray, cfunc, njit, types
from torch import Tensor

from gossamer.kernels import threads
from gossamer.kernels.cpu import next_block, next_rows, tile_width
from gossamer.kernels.simd import (
    CHUNK_BYTES,
    claim,
    dot,
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
    one_less,
    prefetch,
    sigmoid,
    subtract,
    tanh,
    where_positive,
)

_options = {"nogil": True, "cache": True, "error_model": "numpy"}
_task = cfunc(types.void(types.CPointer(types.int64)), cache=True)

RNN_TANH, RNN_RELU, GRU, LSTM = range(4)
# Rows of `gates` that a step keeps for the backward pass, for each unit.
KEPT = (0, 0, 4, 4)

# The gates of a unit are in registers at once: wider tiles would not fit.
_WIDEST = 4
# Units that a thread takes at once: a cache line of each sample's neighbours, and enough blocks for all threads.
_UNITS = 32
# How many units before it is needed a tile is asked for.
_AHEAD = 4


@njit(**_options)
def _load(array, row, column, width, lanes, count):
    if count >= lanes:
        return load(array, row, column, width)
    return load_first(array, row, column, width, count)


@njit(**_options)
def _store(array, row, column, tile, lanes, count):
    if count >= lanes:
        store(array, row, column, tile)
    else:
        store_first(array, row, column, tile, count)


@njit(**_options)
def _product(pointers, indices, values, first, row, x_FB, column, width, lanes, count):
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


@njit(**_options)
def _ask(array, unit, units, column, lanes):
    """Prefetch a tile of each gate of a unit to come: rows lie a page apart, where the processor does not guess."""
    line = 64 // array.itemsize
    for row in range(unit + _AHEAD, array.shape[0], units):
        for part in range(column, column + lanes, line):
            prefetch(array, row, part)


@njit(**_options)
def _forward_rnn(weight, projected, arrays, kind, width, lanes, at, start, stop):
    pointers, indices, values, bias = weight
    h_HB, next_HB, y_HS = arrays[0], arrays[1], arrays[2]
    batch = h_HB.shape[1]
    for column in range(0, batch, lanes):
        count = batch - column
        for unit in range(start, stop):
            _ask(projected, unit, projected.shape[0], at + column, lanes)
            _ask(y_HS, unit, projected.shape[0], at + column, lanes)
            first = add(splat(bias[unit], width), _load(projected, unit, at + column, width, lanes, count))
            total = _product(pointers, indices, values, first, unit, h_HB, column, width, lanes, count)
            h = tanh(total) if kind == RNN_TANH else where_positive(total, total)
            _store(next_HB, unit, column, h, lanes, count)
            _store(y_HS, unit, at + column, h, lanes, count)


@njit(**_options)
def _forward_gru(weight, projected, arrays, width, lanes, at, start, stop):
    pointers, indices, values, bias = weight
    h_HB, next_HB, y_HS, gates = arrays[0], arrays[1], arrays[2], arrays[3]
    units, batch = h_HB.shape
    for column in range(0, batch, lanes):
        count = batch - column
        for unit in range(start, stop):
            row = unit
            _ask(projected, unit, units, at + column, lanes)
            _ask(y_HS, unit, units, at + column, lanes)
            first = add(splat(bias[row], width), _load(projected, row, at + column, width, lanes, count))
            reset = sigmoid(_product(pointers, indices, values, first, row, h_HB, column, width, lanes, count))
            _store(gates, row, column, reset, lanes, count)
            row += units
            first = add(splat(bias[row], width), _load(projected, row, at + column, width, lanes, count))
            keep = sigmoid(_product(pointers, indices, values, first, row, h_HB, column, width, lanes, count))
            _store(gates, row, column, keep, lanes, count)
            row += units
            first = splat(bias[row], width)
            inner = _product(pointers, indices, values, first, row, h_HB, column, width, lanes, count)
            _store(gates, row + units, column, inner, lanes, count)
            new = tanh(multiply_add(reset, inner, _load(projected, row, at + column, width, lanes, count)))
            _store(gates, row, column, new, lanes, count)
            h = multiply_add(keep, subtract(_load(h_HB, unit, column, width, lanes, count), new), new)
            _store(next_HB, unit, column, h, lanes, count)
            _store(y_HS, unit, at + column, h, lanes, count)


@njit(**_options)
def _forward_lstm(weight, projected, arrays, width, lanes, at, start, stop):
    pointers, indices, values, bias = weight
    h_HB, next_HB, y_HS, gates, c_HB, next_c_HB = arrays
    units, batch = h_HB.shape
    for column in range(0, batch, lanes):
        count = batch - column
        for unit in range(start, stop):
            row = unit
            _ask(projected, unit, units, at + column, lanes)
            _ask(y_HS, unit, units, at + column, lanes)
            first = add(splat(bias[row], width), _load(projected, row, at + column, width, lanes, count))
            enter = sigmoid(_product(pointers, indices, values, first, row, h_HB, column, width, lanes, count))
            _store(gates, row, column, enter, lanes, count)
            row += units
            first = add(splat(bias[row], width), _load(projected, row, at + column, width, lanes, count))
            keep = sigmoid(_product(pointers, indices, values, first, row, h_HB, column, width, lanes, count))
            _store(gates, row, column, keep, lanes, count)
            row += units
            first = add(splat(bias[row], width), _load(projected, row, at + column, width, lanes, count))
            new = tanh(_product(pointers, indices, values, first, row, h_HB, column, width, lanes, count))
            _store(gates, row, column, new, lanes, count)
            c = multiply_add(keep, _load(c_HB, unit, column, width, lanes, count), multiply(enter, new))
            _store(next_c_HB, unit, column, c, lanes, count)
            row += units
            first = add(splat(bias[row], width), _load(projected, row, at + column, width, lanes, count))
            leave = sigmoid(_product(pointers, indices, values, first, row, h_HB, column, width, lanes, count))
            _store(gates, row, column, leave, lanes, count)
            h = multiply(leave, tanh(c))
            _store(next_HB, unit, column, h, lanes, count)
            _store(y_HS, unit, at + column, h, lanes, count)


@cache
def _forward_task(kind, real, integer, width):
    """Compile the task of one step; its data: see `forward_step`."""
    lanes = len(width) * CHUNK_BYTES // np.dtype(real).itemsize
    num_gates = (1, 1, 3, 4)[kind]

    @_task
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
            start, stop = block * _UNITS, min((block + 1) * _UNITS, units)
            if kind == LSTM:
                _forward_lstm(weight, projected, arrays, width, lanes, at, start, stop)
            elif kind == GRU:
                _forward_gru(weight, projected, arrays, width, lanes, at, start, stop)
            else:
                _forward_rnn(weight, projected, arrays, kind, width, lanes, at, start, stop)
            block = next_block(data, mine)

    return task.address


@njit(**_options)
def _arriving(weight, later_OB, carry_HB, grad_HS, unit, column, at, first_step, width, lanes, count):
    """Return the gradient of a unit's hidden state: from the output, from the carry and through the weight."""
    pointers, indices, values = weight
    total = add(
        _load(grad_HS, unit, at + column, width, lanes, count), _load(carry_HB, unit, column, width, lanes, count)
    )
    if first_step:
        return total
    return _product(pointers, indices, values, total, unit, later_OB, column, width, lanes, count)


@njit(**_options)
def _backward_rnn(weight, arrays, kind, width, lanes, at, first_step, start, stop):
    later_OB, grad_HS, h_HB, carry_HB, now_OB, grad_OS = arrays[:6]
    batch = h_HB.shape[1]
    for column in range(0, batch, lanes):
        count = batch - column
        for unit in range(start, stop):
            _ask(grad_HS, unit, grad_HS.shape[0], at + column, lanes)
            _ask(grad_OS, unit, grad_HS.shape[0], at + column, lanes)
            grad = _arriving(weight, later_OB, carry_HB, grad_HS, unit, column, at, first_step, width, lanes, count)
            h = _load(h_HB, unit, column, width, lanes, count)
            g = multiply(grad, one_less(multiply(h, h))) if kind == RNN_TANH else where_positive(h, grad)
            _store(carry_HB, unit, column, constant(g, 0.0), lanes, count)
            _store(now_OB, unit, column, g, lanes, count)
            _store(grad_OS, unit, at + column, g, lanes, count)


@njit(**_options)
def _backward_gru(weight, arrays, width, lanes, at, first_step, start, stop):
    later_OB, grad_HS, h_HB, carry_HB, now_OB, grad_OS, gates, inner_OS = arrays[:8]
    units, batch = h_HB.shape
    for column in range(0, batch, lanes):
        count = batch - column
        for unit in range(start, stop):
            _ask(grad_HS, unit, grad_HS.shape[0], at + column, lanes)
            _ask(grad_OS, unit, grad_HS.shape[0], at + column, lanes)
            grad = _arriving(weight, later_OB, carry_HB, grad_HS, unit, column, at, first_step, width, lanes, count)
            reset = _load(gates, unit, column, width, lanes, count)
            keep = _load(gates, unit + units, column, width, lanes, count)
            new = _load(gates, unit + 2 * units, column, width, lanes, count)
            inner = _load(gates, unit + 3 * units, column, width, lanes, count)
            h = _load(h_HB, unit, column, width, lanes, count)
            _store(carry_HB, unit, column, multiply(grad, keep), lanes, count)
            g_new = multiply(multiply(grad, one_less(keep)), one_less(multiply(new, new)))
            g_keep = multiply(multiply(grad, subtract(h, new)), multiply(keep, one_less(keep)))
            g_reset = multiply(multiply(g_new, inner), multiply(reset, one_less(reset)))
            g_inner = multiply(g_new, reset)
            row = unit
            _store(now_OB, row, column, g_reset, lanes, count)
            _store(grad_OS, row, at + column, g_reset, lanes, count)
            _store(inner_OS, row, at + column, g_reset, lanes, count)
            row += units
            _store(now_OB, row, column, g_keep, lanes, count)
            _store(grad_OS, row, at + column, g_keep, lanes, count)
            _store(inner_OS, row, at + column, g_keep, lanes, count)
            row += units
            _store(now_OB, row, column, g_inner, lanes, count)
            _store(grad_OS, row, at + column, g_new, lanes, count)
            _store(inner_OS, row, at + column, g_inner, lanes, count)


@njit(**_options)
def _backward_lstm(weight, arrays, width, lanes, at, first_step, start, stop):
    later_OB, grad_HS, c_HB, carry_HB, now_OB, grad_OS, gates, _, before_c_HB, carry_c_HB = arrays
    units, batch = c_HB.shape
    for column in range(0, batch, lanes):
        count = batch - column
        for unit in range(start, stop):
            _ask(grad_HS, unit, grad_HS.shape[0], at + column, lanes)
            _ask(grad_OS, unit, grad_HS.shape[0], at + column, lanes)
            grad = _arriving(weight, later_OB, carry_HB, grad_HS, unit, column, at, first_step, width, lanes, count)
            _store(carry_HB, unit, column, constant(grad, 0.0), lanes, count)
            enter = _load(gates, unit, column, width, lanes, count)
            keep = _load(gates, unit + units, column, width, lanes, count)
            new = _load(gates, unit + 2 * units, column, width, lanes, count)
            leave = _load(gates, unit + 3 * units, column, width, lanes, count)
            shown = tanh(_load(c_HB, unit, column, width, lanes, count))
            before = _load(before_c_HB, unit, column, width, lanes, count)
            through = multiply(multiply(grad, leave), one_less(multiply(shown, shown)))
            g_c = add(_load(carry_c_HB, unit, column, width, lanes, count), through)
            _store(carry_c_HB, unit, column, multiply(g_c, keep), lanes, count)
            g = multiply(multiply(g_c, new), multiply(enter, one_less(enter)))
            row = unit
            _store(now_OB, row, column, g, lanes, count)
            _store(grad_OS, row, at + column, g, lanes, count)
            g = multiply(multiply(g_c, before), multiply(keep, one_less(keep)))
            row += units
            _store(now_OB, row, column, g, lanes, count)
            _store(grad_OS, row, at + column, g, lanes, count)
            g = multiply(multiply(g_c, enter), one_less(multiply(new, new)))
            row += units
            _store(now_OB, row, column, g, lanes, count)
            _store(grad_OS, row, at + column, g, lanes, count)
            g = multiply(multiply(grad, shown), multiply(leave, one_less(leave)))
            row += units
            _store(now_OB, row, column, g, lanes, count)
            _store(grad_OS, row, at + column, g, lanes, count)


@cache
def _backward_task(kind, real, integer, width):
    """Compile the task of one step backwards; its data: see `backward_step`."""
    lanes = len(width) * CHUNK_BYTES // np.dtype(real).itemsize
    num_gates = (1, 1, 3, 4)[kind]

    @_task
    def task(data):
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        units, active, batch, total, at, first_step = (
            numbers[13],
            numbers[14],
            numbers[15],
            numbers[16],
            numbers[17],
            numbers[18] != 0,
        )
        weight = (
            carray(pointer(numbers[0]), units + 1, integer),
            carray(pointer(numbers[1]), active, integer),
            carray(pointer(numbers[2]), active, real),
        )
        arrays = (
            carray(pointer(numbers[3]), (num_gates * units, batch), real),
            carray(pointer(numbers[4]), (units, total), real),
            carray(pointer(numbers[5]), (units, batch), real),
            carray(pointer(numbers[6]), (units, batch), real),
            carray(pointer(numbers[7]), (num_gates * units, batch), real),
            carray(pointer(numbers[8]), (num_gates * units, total), real),
            carray(pointer(numbers[9]), (4 * units, batch), real),
            carray(pointer(numbers[10]), (num_gates * units, total), real),
            carray(pointer(numbers[11]), (units, batch), real),
            carray(pointer(numbers[12]), (units, batch), real),
        )
        mine = claim(data, 0)
        block = next_block(data, mine)
        while block >= 0:
            start, stop = block * _UNITS, min((block + 1) * _UNITS, units)
            if kind == LSTM:
                _backward_lstm(weight, arrays, width, lanes, at, first_step, start, stop)
            elif kind == GRU:
                _backward_gru(weight, arrays, width, lanes, at, first_step, start, stop)
            else:
                _backward_rnn(weight, arrays, kind, width, lanes, at, first_step, start, stop)
            block = next_block(data, mine)

    return task.address


@njit(**_options)
def _sample_shifted(pointers, indices, g_OS, h_HS, grad_values, shift, width, lanes, start, stop):
    low, high = max(0, shift), g_OS.shape[1] + min(0, shift)
    for column in range(low, high, lanes):
        count = high - column
        for row in range(start, stop):
            g = _load(g_OS, row, column, width, lanes, count)
            for slot in range(pointers[row], pointers[row + 1]):
                h = _load(h_HS, indices[slot], column - shift, width, lanes, count)
                grad_values[slot] = dot(g, h) if column == low else grad_values[slot] + dot(g, h)


@cache
def _sample_task(real, integer, width):
    """Compile the task that writes the gradient of the recurrent weight; its data: see `sample`."""
    lanes = len(width) * CHUNK_BYTES // np.dtype(real).itemsize

    @_task
    def task(data):
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        rows, active, units, total, shift = numbers[5], numbers[6], numbers[7], numbers[8], numbers[9]
        pointers = carray(pointer(numbers[0]), rows + 1, integer)
        indices = carray(pointer(numbers[1]), active, integer)
        g_OS = carray(pointer(numbers[2]), (rows, total), real)
        h_HS = carray(pointer(numbers[3]), (units, total), real)
        grad_values = carray(pointer(numbers[4]), active, real)
        mine = claim(data, 0)
        start, stop = next_rows(data, mine, pointers)
        while start >= 0:
            _sample_shifted(pointers, indices, g_OS, h_HS, grad_values, shift, width, lanes, start, stop)
            start, stop = next_rows(data, mine, pointers)

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
    _launch(_forward_task, kind, like, integer, (*addresses, *sizes), sizes)


def backward_step(
    kind: int, like: Tensor, integer: torch.dtype, addresses: tuple[int, ...], sizes: tuple[int, ...]
) -> None:
    """Take the gradient back by one step.

    Args:
        kind: RNN_TANH, RNN_RELU, GRU or LSTM.
        like: any tensor of the dtype of the values.
        integer: dtype of the topology.
        addresses: of column pointers, row indices and values by columns; gradient of the later step's gates [O, B];
            gradient of all outputs [H, S]; the state that the derivative needs [H, B] (hidden state after for RNN,
            before for GRU, cell state after for LSTM); carry [H, B]; result: gradient of the gates [O, B] and, of all
            steps, [O, S]; kept gates; for GRU the gradient of the recurrent product, all steps [O, S]; for LSTM the
            cell state before and its carry [H, B].
        sizes: H, K, B, S, the first column of the step, and whether there is no later step.
    """
    _launch(_backward_task, kind, like, integer, (*addresses, *sizes), sizes)


def _launch(make, kind, like, integer, numbers, sizes):
    width = tile_width(sizes[2], like.element_size())[:_WIDEST]
    task = make(kind, _NUMPY[like.dtype], _NUMPY[integer], width)
    threads.run(task, numbers, num_blocks=-(-sizes[0] // _UNITS))


def sample(pointers: Tensor, indices: Tensor, g_OS: Tensor, h_HS: Tensor, shift: int) -> Tensor:
    """Return the product of each weight's gradient and input over all steps but the first, shape [K].

    Args:
        pointers: row pointers.
        indices: column indices.
        g_OS: gradient of the recurrent product.
        h_HS: hidden states; column s of the gradient meets column s - `shift`.
        shift: batch size, negative for a layer that runs backwards; smaller than S.
    """
    grad_values = g_OS.new_empty(indices.numel())
    width = tile_width(g_OS.shape[1] - abs(shift), g_OS.element_size())
    task = _sample_task(_NUMPY[g_OS.dtype], _NUMPY[indices.dtype], width)
    addresses = (part.data_ptr() for part in (pointers, indices, g_OS, h_HS, grad_values))
    sizes = (pointers.numel() - 1, indices.numel(), h_HS.shape[0], g_OS.shape[1], shift)
    threads.run(task, [*addresses, *sizes], num_blocks=4 * torch.get_num_threads())
    return grad_values


_NUMPY = {torch.float32: np.float32, torch.float64: np.float64, torch.int32: np.int32, torch.int64: np.int64}
