"""Products of a weight whose outputs all have the same number of entries with a feature-major batch, in Numba.

Shapes: F = features in, G = groups of LANES outputs, k = entries of an output, P = G * LANES outputs with those that
fill the last group, B = batch. `indices` and `values` are [G, k, LANES]: no pointers, and entry j of all outputs of a
group stands together. For one sample these outputs are a vector, and their inputs are gathered; for a batch each
output has a tile of its own.
"""

from functools import cache

import numpy as np
import torch
from numba import carray, njit
from torch import Tensor

from gossamer.kernels import threads
from gossamer.kernels.block import tile_width
from gossamer.kernels.blocks import OPTIONS, TASK, next_block
from gossamer.kernels.gather import gather
from gossamer.kernels.simd import CHUNK_BYTES, claim, multiply_add, pointer
from gossamer.kernels.tiles import (
    add_first_of_rows,
    add_rows,
    add_tiles,
    load_lanes,
    splat_lanes,
    splat_rows,
    store_first_of_rows,
    store_lanes,
    store_rows,
)

# Outputs of a group: as many float32 as a register of 512 bits holds.
LANES = 16
# Outputs whose tiles are held at once: wide tiles, since no input is shared.
_ROWS = 2
_NUMPY = {torch.float32: np.float32, torch.float64: np.float64, torch.int16: np.int16, torch.int32: np.int32}
_NUMPY[torch.int64] = np.int64


@njit(**OPTIONS)
def _multiply_group(indices, values, bias, x_FB, y_PB, fan_in, rows, width, lanes, group):
    batch, r = x_FB.shape[1], len(rows)
    for column in range(0, batch, lanes):
        count = batch - column
        for k in range(0, LANES, r):
            output, place = group * LANES + k, group * fan_in * LANES + k
            totals = splat_rows(bias, output, rows, width)
            if count >= lanes:
                for _ in range(fan_in):
                    totals = add_rows(values, indices, place, x_FB, column, totals)
                    place += LANES
                store_rows(y_PB, output, column, totals)
            else:
                for _ in range(fan_in):
                    totals = add_first_of_rows(values, indices, place, x_FB, column, totals, count)
                    place += LANES
                store_first_of_rows(y_PB, output, column, totals, count)


@njit(**OPTIONS)
def _one_sample(indices, values, bias, x, y, fan_in, vector, group):
    lanes = len(vector)
    zero = values.dtype.type(0)
    for k in range(0, LANES, lanes):
        place = group * fan_in * LANES + k
        # Two sums: one would wait for each multiplication before the next.
        one, two = load_lanes(bias, group * LANES + k, vector), splat_lanes(zero, vector)
        for _ in range(fan_in // 2):
            one = multiply_add(load_lanes(values, place, vector), gather(x, indices, place, vector), one)
            place += LANES
            two = multiply_add(load_lanes(values, place, vector), gather(x, indices, place, vector), two)
            place += LANES
        if fan_in % 2:
            one = multiply_add(load_lanes(values, place, vector), gather(x, indices, place, vector), one)
        store_lanes(y, group * LANES + k, add_tiles(one, two))


@cache
def _multiply_task(real, integer, rows, width):
    """Compile the task that writes W x + b; its data: see `multiply`."""
    lanes = len(width) * CHUNK_BYTES // np.dtype(real).itemsize

    @TASK
    def task(data):
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        groups, fan_in, features, batch = numbers[5], numbers[6], numbers[7], numbers[8]
        indices = carray(pointer(numbers[0]), groups * fan_in * LANES, integer)
        values = carray(pointer(numbers[1]), groups * fan_in * LANES, real)
        bias = carray(pointer(numbers[2]), groups * LANES, real)
        x_FB = carray(pointer(numbers[3]), (features, batch), real)
        y_PB = carray(pointer(numbers[4]), (groups * LANES, batch), real)
        mine = claim(data, 0)
        group = next_block(data, mine)
        while group >= 0:
            _multiply_group(indices, values, bias, x_FB, y_PB, fan_in, rows, width, lanes, group)
            group = next_block(data, mine)

    return task.address


@cache
def _one_sample_task(real, integer, vector):
    """Compile the same task for a batch of one."""

    @TASK
    def task(data):
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        groups, fan_in, features = numbers[5], numbers[6], numbers[7]
        indices = carray(pointer(numbers[0]), groups * fan_in * LANES, integer)
        values = carray(pointer(numbers[1]), groups * fan_in * LANES, real)
        bias = carray(pointer(numbers[2]), groups * LANES, real)
        x = carray(pointer(numbers[3]), features, real)
        y = carray(pointer(numbers[4]), groups * LANES, real)
        mine = claim(data, 0)
        group = next_block(data, mine)
        while group >= 0:
            _one_sample(indices, values, bias, x, y, fan_in, vector, group)
            group = next_block(data, mine)

    return task.address


def multiply(indices: Tensor, values: Tensor, bias: Tensor, x_FB: Tensor, y_PB: Tensor) -> None:
    """Write W x + b to y.

    Args:
        indices: input of each entry, shape [G, k, LANES], int16, int32 or int64.
        values: float32 or float64, shape [G, k, LANES].
        bias: shape [P].
        x_FB: contiguous, on the CPU.
        y_PB: contiguous.
    """
    groups, fan_in = values.shape[:2]
    numbers = [*(part.data_ptr() for part in (indices, values, bias, x_FB, y_PB)), groups, fan_in, *x_FB.shape]
    kinds = _NUMPY[x_FB.dtype], _NUMPY[indices.dtype]
    if x_FB.shape[1] == 1:
        task = _one_sample_task(*kinds, (0,) * (CHUNK_BYTES // x_FB.element_size()))
    else:
        task = _multiply_task(*kinds, (0,) * _ROWS, tile_width(x_FB.shape[1], x_FB.element_size(), _ROWS))
    threads.run(task, numbers, num_blocks=groups)
