"""Products of a weight stored in small dense blocks with a feature-major batch, in Numba.

Shapes: F = features in, P = outputs, filled up to whole blocks, B = batch. A block has r rows and c columns and holds
its values column by column; `columns` tells at which input each block starts. The r outputs of a block row share each
load of an input, and their sums stay in registers: so the product is bound by multiplications, not by loads. For one
sample there is no batch to put into a vector: the rows of a block are the vector, and an input is broadcast.
"""

from functools import cache

import numpy as np
import torch
from numba import carray, njit
from torch import Tensor

from gossamer.kernels import panels, threads
from gossamer.kernels.blocks import OPTIONS, TASK, next_rows
from gossamer.kernels.simd import CHUNK_BYTES, claim, load, load_first, multiply_add, pointer
from gossamer.kernels.tiles import (
    add_products,
    add_tiles,
    load_lanes,
    splat_lanes,
    splat_rows,
    store_first_of_rows,
    store_lanes,
    store_rows,
)

_NUMPY = {torch.float32: np.float32, torch.float64: np.float64, torch.int32: np.int32, torch.int64: np.int64}


@njit(**OPTIONS)
def _multiply_rows(pointers, columns, values, bias, x_FB, y_PB, rows, num_columns, width, lanes, start, stop):
    batch, r, c = x_FB.shape[1], len(rows), len(num_columns)
    for column in range(0, batch, lanes):
        count = batch - column
        for block_row in range(start, stop):
            totals = splat_rows(bias, block_row * r, rows, width)
            for slot in range(pointers[block_row], pointers[block_row + 1]):
                first, place = columns[slot], np.int64(slot) * (r * c)
                if count >= lanes:
                    for j in range(c):
                        totals = add_products(values, place + j * r, load(x_FB, first + j, column, width), totals)
                else:
                    for j in range(c):
                        x = load_first(x_FB, first + j, column, width, count)
                        totals = add_products(values, place + j * r, x, totals)
            if count >= lanes:
                store_rows(y_PB, block_row * r, column, totals)
            else:
                store_first_of_rows(y_PB, block_row * r, column, totals, count)


@njit(**OPTIONS)
def _one_sample(pointers, columns, values, bias, x, y, rows, num_columns, start, stop):
    r, c = len(rows), len(num_columns)
    zero = values.dtype.type(0)
    for block_row in range(start, stop):
        # Four sums: one would wait for each multiplication before the next.
        one, two = load_lanes(bias, block_row * r, rows), splat_lanes(zero, rows)
        three, four = two, two
        slot, end = np.int64(pointers[block_row]), np.int64(pointers[block_row + 1])
        if c == 1:
            while slot + 4 <= end:
                place = slot * r
                one = multiply_add(load_lanes(values, place, rows), splat_lanes(x[columns[slot]], rows), one)
                two = multiply_add(load_lanes(values, place + r, rows), splat_lanes(x[columns[slot + 1]], rows), two)
                three = multiply_add(
                    load_lanes(values, place + 2 * r, rows), splat_lanes(x[columns[slot + 2]], rows), three
                )
                four = multiply_add(
                    load_lanes(values, place + 3 * r, rows), splat_lanes(x[columns[slot + 3]], rows), four
                )
                slot += 4
        while slot < end:
            first, place = columns[slot], slot * (r * c)
            for j in range(0, c - 3, 4):
                at = place + j * r
                one = multiply_add(load_lanes(values, at, rows), splat_lanes(x[first + j], rows), one)
                two = multiply_add(load_lanes(values, at + r, rows), splat_lanes(x[first + j + 1], rows), two)
                three = multiply_add(load_lanes(values, at + 2 * r, rows), splat_lanes(x[first + j + 2], rows), three)
                four = multiply_add(load_lanes(values, at + 3 * r, rows), splat_lanes(x[first + j + 3], rows), four)
            for j in range(c - c % 4, c):
                one = multiply_add(load_lanes(values, place + j * r, rows), splat_lanes(x[first + j], rows), one)
            slot += 1
        store_lanes(y, block_row * r, add_tiles(add_tiles(one, two), add_tiles(three, four)))


@cache
def _multiply_task(real, integer, rows, num_columns, width):
    """Compile the task that writes W x + b for blocks of a shape; its data: see `multiply`."""
    lanes = len(width) * CHUNK_BYTES // np.dtype(real).itemsize
    r, c = len(rows), len(num_columns)

    @TASK
    def task(data):
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        block_rows, blocks, features, batch = numbers[6], numbers[7], numbers[8], numbers[9]
        pointers = carray(pointer(numbers[0]), block_rows + 1, integer)
        columns = carray(pointer(numbers[1]), blocks, integer)
        values = carray(pointer(numbers[2]), blocks * (r * c), real)
        bias = carray(pointer(numbers[3]), block_rows * r, real)
        x_FB = carray(pointer(numbers[4]), (features, batch), real)
        y_PB = carray(pointer(numbers[5]), (block_rows * r, batch), real)
        mine = claim(data, 0)
        start, stop = next_rows(data, mine, pointers)
        while start >= 0:
            _multiply_rows(pointers, columns, values, bias, x_FB, y_PB, rows, num_columns, width, lanes, start, stop)
            start, stop = next_rows(data, mine, pointers)

    return task.address


@cache
def _one_sample_task(real, integer, rows, num_columns):
    """Compile the same task for a batch of one."""
    r, c = len(rows), len(num_columns)

    @TASK
    def task(data):
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        block_rows, blocks, features = numbers[6], numbers[7], numbers[8]
        pointers = carray(pointer(numbers[0]), block_rows + 1, integer)
        columns = carray(pointer(numbers[1]), blocks, integer)
        values = carray(pointer(numbers[2]), blocks * (r * c), real)
        bias = carray(pointer(numbers[3]), block_rows * r, real)
        x = carray(pointer(numbers[4]), features, real)
        y = carray(pointer(numbers[5]), block_rows * r, real)
        mine = claim(data, 0)
        start, stop = next_rows(data, mine, pointers)
        while start >= 0:
            _one_sample(pointers, columns, values, bias, x, y, rows, num_columns, start, stop)
            start, stop = next_rows(data, mine, pointers)

    return task.address


def multiply(
    pointers: Tensor,
    columns: Tensor,
    values: Tensor,
    bias: Tensor,
    x_FB: Tensor,
    y_PB: Tensor,
    *,
    shape: tuple[int, int],
) -> None:
    """Write W x + b to y.

    Args:
        pointers: blocks of block row r stand at [pointers[r], pointers[r + 1]), int32 or int64, as `columns`.
        columns: first input of each block, shape [blocks].
        values: float32 or float64, shape [blocks * r * c], each block column by column.
        bias: shape [P].
        x_FB: contiguous, on the CPU.
        y_PB: contiguous.
        shape: (rows, columns) of a block.
    """
    sizes = (pointers.numel() - 1, columns.numel(), *x_FB.shape)
    numbers = [*(part.data_ptr() for part in (pointers, columns, values, bias, x_FB, y_PB)), *sizes]
    kinds = _NUMPY[x_FB.dtype], _NUMPY[pointers.dtype]
    rows, num_columns = (0,) * shape[0], (0,) * shape[1]
    if x_FB.shape[1] == 1:
        task = _one_sample_task(*kinds, rows, num_columns)
    else:
        task = _multiply_task(*kinds, rows, num_columns, tile_width(x_FB.shape[1], x_FB.element_size(), shape[0]))
    threads.run(task, numbers, num_blocks=4 * torch.get_num_threads())


def most_rows() -> int:
    """Return how many rows a block may have for its sums to stay in the registers of this processor."""
    return panels.WIDEST


def tile_width(batch: int, itemsize: int, rows: int) -> tuple[int, ...]:
    """Return the width of a tile of which the registers hold one for each row of a block.

    Args:
        batch: number of samples.
        itemsize: bytes of one value, 4 or 8.
        rows: tiles held at once.
    """
    # The widest single tile takes half of the registers of a processor, twice that would take what inputs need.
    most = max(1, 2 * panels.WIDEST // rows)
    return panels.chunk_width(batch, itemsize)[:most]
