"""Steps of recurrent layers backwards, in Numba: the gradient through the weight and the gates of a unit in one go.

Shapes: H = hidden features, O = G H gates in torch's order, B = batch, S = steps x batch, K = active weights; layouts
as in `recurrent`.
"""

from functools import cache

import numpy as np
import torch
from numba import carray, njit
from torch import Tensor

from gossamer.kernels import threads
from gossamer.kernels.blocks import OPTIONS, TASK, next_block, next_rows
from gossamer.kernels.panels import chunk_width
from gossamer.kernels.recurrent import (
    GRU,
    LSTM,
    NUMPY,
    RNN_TANH,
    UNITS,
    ask_ahead,
    launch,
    load_part,
    row_product,
    store_part,
)
from gossamer.kernels.simd import CHUNK_BYTES, claim, dot, load, pointer
from gossamer.kernels.simd_math import add, constant, multiply, one_less, subtract, tanh, where_positive


@njit(**OPTIONS)
def _arriving(weight, later_OB, carry_HB, grad_HS, unit, column, at, first_step, width, lanes, count):
    """Return the gradient of a unit's hidden state: from the output, from the carry and through the weight."""
    pointers, indices, values = weight
    total = add(
        load_part(grad_HS, unit, at + column, width, lanes, count),
        load_part(carry_HB, unit, column, width, lanes, count),
    )
    if first_step:
        return total
    return row_product(pointers, indices, values, total, unit, later_OB, column, width, lanes, count)


@njit(**OPTIONS)
def _backward_rnn(weight, arrays, kind, width, lanes, at, first_step, start, stop):
    later_OB, grad_HS, h_HB, carry_HB, now_OB, grad_OS = arrays[:6]
    batch = h_HB.shape[1]
    for column in range(0, batch, lanes):
        count = batch - column
        for unit in range(start, stop):
            ask_ahead(grad_HS, unit, grad_HS.shape[0], at + column, lanes)
            ask_ahead(grad_OS, unit, grad_HS.shape[0], at + column, lanes)
            grad = _arriving(weight, later_OB, carry_HB, grad_HS, unit, column, at, first_step, width, lanes, count)
            h = load_part(h_HB, unit, column, width, lanes, count)
            g = multiply(grad, one_less(multiply(h, h))) if kind == RNN_TANH else where_positive(h, grad)
            store_part(carry_HB, unit, column, constant(g, 0.0), lanes, count)
            store_part(now_OB, unit, column, g, lanes, count)
            store_part(grad_OS, unit, at + column, g, lanes, count)


@njit(**OPTIONS)
def _backward_gru(weight, arrays, width, lanes, at, first_step, start, stop):
    later_OB, grad_HS, h_HB, carry_HB, now_OB, grad_OS, gates, inner_OS = arrays[:8]
    units, batch = h_HB.shape
    for column in range(0, batch, lanes):
        count = batch - column
        for unit in range(start, stop):
            ask_ahead(grad_HS, unit, grad_HS.shape[0], at + column, lanes)
            ask_ahead(grad_OS, unit, grad_HS.shape[0], at + column, lanes)
            grad = _arriving(weight, later_OB, carry_HB, grad_HS, unit, column, at, first_step, width, lanes, count)
            reset = load_part(gates, unit, column, width, lanes, count)
            keep = load_part(gates, unit + units, column, width, lanes, count)
            new = load_part(gates, unit + 2 * units, column, width, lanes, count)
            inner = load_part(gates, unit + 3 * units, column, width, lanes, count)
            h = load_part(h_HB, unit, column, width, lanes, count)
            store_part(carry_HB, unit, column, multiply(grad, keep), lanes, count)
            g_new = multiply(multiply(grad, one_less(keep)), one_less(multiply(new, new)))
            g_keep = multiply(multiply(grad, subtract(h, new)), multiply(keep, one_less(keep)))
            g_reset = multiply(multiply(g_new, inner), multiply(reset, one_less(reset)))
            g_inner = multiply(g_new, reset)
            row = unit
            store_part(now_OB, row, column, g_reset, lanes, count)
            store_part(grad_OS, row, at + column, g_reset, lanes, count)
            store_part(inner_OS, row, at + column, g_reset, lanes, count)
            row += units
            store_part(now_OB, row, column, g_keep, lanes, count)
            store_part(grad_OS, row, at + column, g_keep, lanes, count)
            store_part(inner_OS, row, at + column, g_keep, lanes, count)
            row += units
            store_part(now_OB, row, column, g_inner, lanes, count)
            store_part(grad_OS, row, at + column, g_new, lanes, count)
            store_part(inner_OS, row, at + column, g_inner, lanes, count)


@njit(**OPTIONS)
def _backward_lstm(weight, arrays, width, lanes, at, first_step, start, stop):
    later_OB, grad_HS, c_HB, carry_HB, now_OB, grad_OS, gates, _, before_c_HB, carry_c_HB = arrays
    units, batch = c_HB.shape
    for column in range(0, batch, lanes):
        count = batch - column
        for unit in range(start, stop):
            ask_ahead(grad_HS, unit, grad_HS.shape[0], at + column, lanes)
            ask_ahead(grad_OS, unit, grad_HS.shape[0], at + column, lanes)
            grad = _arriving(weight, later_OB, carry_HB, grad_HS, unit, column, at, first_step, width, lanes, count)
            store_part(carry_HB, unit, column, constant(grad, 0.0), lanes, count)
            enter = load_part(gates, unit, column, width, lanes, count)
            keep = load_part(gates, unit + units, column, width, lanes, count)
            new = load_part(gates, unit + 2 * units, column, width, lanes, count)
            leave = load_part(gates, unit + 3 * units, column, width, lanes, count)
            shown = tanh(load_part(c_HB, unit, column, width, lanes, count))
            before = load_part(before_c_HB, unit, column, width, lanes, count)
            through = multiply(multiply(grad, leave), one_less(multiply(shown, shown)))
            g_c = add(load_part(carry_c_HB, unit, column, width, lanes, count), through)
            store_part(carry_c_HB, unit, column, multiply(g_c, keep), lanes, count)
            g = multiply(multiply(g_c, new), multiply(enter, one_less(enter)))
            row = unit
            store_part(now_OB, row, column, g, lanes, count)
            store_part(grad_OS, row, at + column, g, lanes, count)
            g = multiply(multiply(g_c, before), multiply(keep, one_less(keep)))
            row += units
            store_part(now_OB, row, column, g, lanes, count)
            store_part(grad_OS, row, at + column, g, lanes, count)
            g = multiply(multiply(g_c, enter), one_less(multiply(new, new)))
            row += units
            store_part(now_OB, row, column, g, lanes, count)
            store_part(grad_OS, row, at + column, g, lanes, count)
            g = multiply(multiply(grad, shown), multiply(leave, one_less(leave)))
            row += units
            store_part(now_OB, row, column, g, lanes, count)
            store_part(grad_OS, row, at + column, g, lanes, count)


@cache
def _backward_task(kind, real, integer, width):
    """Compile the task of one step backwards; its data: see `backward_step`."""
    lanes = len(width) * CHUNK_BYTES // np.dtype(real).itemsize
    num_gates = (1, 1, 3, 4)[kind]

    @TASK
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
            start, stop = block * UNITS, min((block + 1) * UNITS, units)
            if kind == LSTM:
                _backward_lstm(weight, arrays, width, lanes, at, first_step, start, stop)
            elif kind == GRU:
                _backward_gru(weight, arrays, width, lanes, at, first_step, start, stop)
            else:
                _backward_rnn(weight, arrays, kind, width, lanes, at, first_step, start, stop)
            block = next_block(data, mine)

    return task.address


@njit(**OPTIONS)
def _sample_tiles(pointers, indices, g_OS, tiles, grad_values, low, high, width, lanes, start, stop):
    units = tiles.shape[0] // max(1, (high - low + lanes - 1) // lanes)
    first = 0
    for column in range(low, high, lanes):
        count = high - column
        for row in range(start, stop):
            g = load_part(g_OS, row, column, width, lanes, count)
            for slot in range(np.uint64(pointers[row]), np.uint64(pointers[row + 1])):
                h = load(tiles, first + indices[slot], 0, width)
                grad_values[slot] = dot(g, h) if column == low else grad_values[slot] + dot(g, h)
        first += units


@cache
def _sample_task(real, integer, width):
    """Compile the task that writes the gradient of the recurrent weight; its data: see `sample`."""
    lanes = len(width) * CHUNK_BYTES // np.dtype(real).itemsize

    @TASK
    def task(data):
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        rows, active, total, low, high, num_rows = (
            numbers[5],
            numbers[6],
            numbers[7],
            numbers[8],
            numbers[9],
            numbers[10],
        )
        pointers = carray(pointer(numbers[0]), rows + 1, integer)
        indices = carray(pointer(numbers[1]), active, integer)
        g_OS = carray(pointer(numbers[2]), (rows, total), real)
        tiles = carray(pointer(numbers[3]), (num_rows, lanes), real)
        grad_values = carray(pointer(numbers[4]), active, real)
        mine = claim(data, 0)
        start, stop = next_rows(data, mine, pointers)
        while start >= 0:
            _sample_tiles(pointers, indices, g_OS, tiles, grad_values, low, high, width, lanes, start, stop)
            start, stop = next_rows(data, mine, pointers)

    return task.address


# What the autograd function calls: contiguous tensors on the CPU, addresses of them where a step has a part of one.


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
    launch(_backward_task, kind, like, integer, (*addresses, *sizes), sizes)


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
    low, high = max(0, shift), g_OS.shape[1] + min(0, shift)
    width = chunk_width(high - low, g_OS.element_size())
    tiles = _tiles(h_HS[:, low - shift : high - shift], len(width) * CHUNK_BYTES // g_OS.element_size())
    task = _sample_task(NUMPY[g_OS.dtype], NUMPY[indices.dtype], width)
    addresses = (part.data_ptr() for part in (pointers, indices, g_OS, tiles, grad_values))
    sizes = (pointers.numel() - 1, indices.numel(), g_OS.shape[1], low, high, tiles.shape[0] * tiles.shape[1])
    threads.run(task, [*addresses, *sizes], num_blocks=4 * torch.get_num_threads())
    return grad_values


def _tiles(h_HS: Tensor, lanes: int) -> Tensor:
    """Copy as tiles, [tiles, H, lanes]: rows that lie a power of two apart would push each other out of the cache."""
    units, total = h_HS.shape
    full, rest = divmod(total, lanes)
    tiles = h_HS.new_zeros(full + bool(rest), units, lanes)
    tiles[:full] = h_HS[:, : full * lanes].unflatten(1, (full, lanes)).transpose(0, 1)
    if rest:
        tiles[full, :, :rest] = h_HS[:, full * lanes :]
    return tiles
