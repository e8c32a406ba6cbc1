"""Rows of a sparse table, in Numba: look some up as dense vectors, and the gradient of the active entries.

Shapes: V = rows of the table, D = columns, N = look-ups, K = active entries. `out_ND` and `grad_ND` are contiguous.
A look-up writes its row once. In the gradient a thread owns a stretch of the table and takes the look-ups that fall
there in their order: repeated indices add up without a race, to the same bits whatever the number of threads.
"""

from functools import cache

import numpy as np
import torch
from numba import carray, njit
from torch import Tensor

from gossamer.kernels import threads
from gossamer.kernels.blocks import OPTIONS, TASK, next_block
from gossamer.kernels.simd import claim, pointer
from gossamer.kernels.simd_math import prefetch_vector as prefetch

# How many look-ups before it is needed a row is asked for.
_AHEAD = 8
# Look-ups that a thread takes at once.
_LOOKUPS = 64


@njit(**OPTIONS)
def _ask(pointers, columns, values, indices, place):
    """Prefetch rows to come, which lie anywhere: where one begins is asked for first, then the row itself."""
    if place + 2 * _AHEAD < indices.size:
        prefetch(pointers, indices[place + 2 * _AHEAD])
        soon = pointers[indices[place + _AHEAD]]
        prefetch(columns, soon)
        prefetch(values, soon)


@njit(**OPTIONS)
def _look_up(pointers, columns, values, indices, out_ND, start, stop):
    for place in range(start, stop):
        _ask(pointers, columns, values, indices, place)
        out_ND[place] = 0
        row = indices[place]
        for slot in range(pointers[row], pointers[row + 1]):
            out_ND[place, columns[slot]] = values[slot]


@cache
def _look_up_task(real, integer):
    """Compile the task that writes dense rows; its data: see `look_up`."""

    @TASK
    def task(data):
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        rows, active, lookups, width = numbers[5], numbers[6], numbers[7], numbers[8]
        pointers = carray(pointer(numbers[0]), rows + 1, integer)
        columns = carray(pointer(numbers[1]), active, integer)
        values = carray(pointer(numbers[2]), active, real)
        indices = carray(pointer(numbers[3]), lookups, np.int64)
        out_ND = carray(pointer(numbers[4]), (lookups, width), real)
        mine = claim(data, 0)
        block = next_block(data, mine)
        while block >= 0:
            stop = min((block + 1) * _LOOKUPS, lookups)
            _look_up(pointers, columns, values, indices, out_ND, block * _LOOKUPS, stop)
            block = next_block(data, mine)

    return task.address


@njit(**OPTIONS)
def _add_up(pointers, columns, indices, grad_ND, skip, grad_values, first, last):
    grad_values[pointers[first] : pointers[last]] = 0
    for place in range(indices.size):
        _ask(pointers, columns, grad_values, indices, place)
        row = indices[place]
        if first <= row < last and row != skip:
            for slot in range(pointers[row], pointers[row + 1]):
                grad_values[slot] += grad_ND[place, columns[slot]]


@cache
def _add_up_task(real, integer):
    """Compile the task that writes the gradient of the values; its data: see `add_up`."""

    @TASK
    def task(data):
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        rows, active, lookups, width, skip = numbers[5], numbers[6], numbers[7], numbers[8], numbers[9]
        blocks = carray(data, threads.NUMBERS)[1]
        pointers = carray(pointer(numbers[0]), rows + 1, integer)
        columns = carray(pointer(numbers[1]), active, integer)
        indices = carray(pointer(numbers[2]), lookups, np.int64)
        grad_ND = carray(pointer(numbers[3]), (lookups, width), real)
        grad_values = carray(pointer(numbers[4]), active, real)
        mine = claim(data, 0)
        block = next_block(data, mine)
        while block >= 0:
            first, last = rows * block // blocks, rows * (block + 1) // blocks
            _add_up(pointers, columns, indices, grad_ND, skip, grad_values, first, last)
            block = next_block(data, mine)

    return task.address


# What the operators call: contiguous tensors on the CPU, pointers and columns all int32 or all int64, indices int64.


def look_up(pointers: Tensor, columns: Tensor, values: Tensor, indices: Tensor, out_ND: Tensor) -> None:
    """Write row indices[n] of the table to out[n]; values of 2, 4 or 8 bytes, which are moved and not looked at."""
    task = _look_up_task(_MOVED[values.element_size()], _NUMPY[pointers.dtype])
    tensors = (pointers, columns, values, indices, out_ND)
    sizes = (pointers.numel() - 1, columns.numel(), indices.numel(), out_ND.shape[1])
    threads.run(task, [*(part.data_ptr() for part in tensors), *sizes], num_blocks=-(-indices.numel() // _LOOKUPS))


def add_up(pointers: Tensor, columns: Tensor, indices: Tensor, grad_ND: Tensor, skip: int, grad_values: Tensor) -> None:
    """Write to grad_values the sum of what arrived at each active entry; row `skip` gets none.

    Each block reads all indices, so there is one for each thread.
    """
    task = _add_up_task(_NUMPY[grad_ND.dtype], _NUMPY[pointers.dtype])
    tensors = (pointers, columns, indices, grad_ND, grad_values)
    sizes = (pointers.numel() - 1, columns.numel(), indices.numel(), grad_ND.shape[1], skip)
    numbers = [*(part.data_ptr() for part in tensors), *sizes]
    threads.run(task, numbers, num_blocks=min(torch.get_num_threads(), max(1, pointers.numel() - 1)))


_NUMPY = {torch.float32: np.float32, torch.float64: np.float64, torch.int32: np.int32, torch.int64: np.int64}
_MOVED = {2: np.int16, 4: np.int32, 8: np.int64}
