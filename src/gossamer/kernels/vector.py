"""The products for a single sample: no batch to run along, so a row's entries fill the lanes and x is gathered.

Where most of x is zero, as behind a ReLU or k-winners, the columns of the others are added up instead, one number at a
time; a weight of an input that is zero is not looked at then.

Shapes: F = features in, O = features out, K = active weights.
"""

from functools import cache

import numpy as np
from numba import carray, njit

from gossamer.kernels import threads
from gossamer.kernels.blocks import OPTIONS, TASK, first_row, next_block
from gossamer.kernels.gather import gather, gather_first
from gossamer.kernels.simd import (
    CHUNK_BYTES,
    claim,
    dot,
    load,
    load_first,
    multiply_add,
    pick,
    pointer,
    put,
    splat,
    store,
    store_first,
)

# One chunk holds as many numbers as a gather brings.
WIDTH = (0,)
# Columns are added up where fewer than one input in this many is not zero.
_FEW = 8


@njit(**OPTIONS)
def _multiply(pointers, indices, values_1K, bias, x_F, y_O, lanes, start, stop):
    count = np.int64(len(lanes))
    zero = splat(x_F.dtype.type(0), WIDTH)
    one = splat(x_F.dtype.type(1), WIDTH)
    slot = np.int64(pick(pointers, start))
    for row in range(start, stop):
        last = np.int64(pick(pointers, row + 1))
        total = zero
        while slot + count <= last:
            total = multiply_add(load(values_1K, 0, slot, WIDTH), gather(x_F, indices, slot, lanes), total)
            slot += count
        if slot < last:
            rest = last - slot
            part = gather_first(x_F, indices, slot, lanes, rest)
            total = multiply_add(load_first(values_1K, 0, slot, WIDTH, rest), part, total)
            slot = last
        put(y_O, row, bias[row] + dot(total, one))


@njit(**OPTIONS)
def _count_active(x_F):
    count = 0
    for feature in range(x_F.size):
        count += x_F[feature] != 0
    return count


@njit(**OPTIONS)
def _add_columns(pointers, indices, permutation, values, bias, x_F, y_O, start, stop):
    """Write some rows of W x + b, from the columns whose input is not zero."""
    for row in range(start, stop):
        put(y_O, row, bias[row])
    for feature in range(x_F.size):
        x = pick(x_F, feature)
        if x == 0:
            continue
        slot, last = np.int64(pick(pointers, feature)), np.int64(pick(pointers, feature + 1))
        end = last
        while start > 0 and slot < end:
            middle = (slot + end) // 2
            if np.int64(pick(indices, middle)) < start:
                slot = middle + 1
            else:
                end = middle
        while slot < last:
            row = np.int64(pick(indices, slot))
            if row >= stop:
                break
            put(y_O, row, pick(y_O, row) + x * pick(values, np.int64(pick(permutation, slot))))
            slot += 1


@njit(**OPTIONS)
def _multiply_transposed(pointers, indices, permutation, values, g_O, grad_x_F, lanes, start, stop):
    count = np.int64(len(lanes))
    zero = splat(g_O.dtype.type(0), WIDTH)
    one = splat(g_O.dtype.type(1), WIDTH)
    slot = np.int64(pick(pointers, start))
    for row in range(start, stop):
        last = np.int64(pick(pointers, row + 1))
        total = zero
        while slot + count <= last:
            total = multiply_add(gather(values, permutation, slot, lanes), gather(g_O, indices, slot, lanes), total)
            slot += count
        if slot < last:
            rest = last - slot
            part = gather_first(g_O, indices, slot, lanes, rest)
            total = multiply_add(gather_first(values, permutation, slot, lanes, rest), part, total)
            slot = last
        put(grad_x_F, row, dot(total, one))


@njit(**OPTIONS)
def _sample(pointers, indices, g_O, x_F, grad_values_1K, lanes, start, stop):
    count = np.int64(len(lanes))
    zero = splat(x_F.dtype.type(0), WIDTH)
    slot = np.int64(pick(pointers, start))
    for row in range(start, stop):
        last = np.int64(pick(pointers, row + 1))
        g = splat(pick(g_O, row), WIDTH)
        while slot + count <= last:
            store(grad_values_1K, 0, slot, multiply_add(g, gather(x_F, indices, slot, lanes), zero))
            slot += count
        if slot < last:
            rest = last - slot
            part = gather_first(x_F, indices, slot, lanes, rest)
            store_first(grad_values_1K, 0, slot, multiply_add(g, part, zero), rest)
            slot = last


def _lanes(real):
    return (0,) * (CHUNK_BYTES // np.dtype(real).itemsize)


@cache
def multiply_task(real, integer):
    """Compile the task that writes W x + b; its data: see `cpu.multiply`."""
    lanes = _lanes(real)

    @TASK
    def run(data):
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        rows, active, features = numbers[6], numbers[7], numbers[8]
        pointers = carray(pointer(numbers[0]), rows + 1, integer)
        indices = carray(pointer(numbers[1]), active, integer)
        values_1K = carray(pointer(numbers[2]), (1, active), real)
        bias = carray(pointer(numbers[3]), rows, real)
        x_F = carray(pointer(numbers[4]), features, real)
        y_O = carray(pointer(numbers[5]), rows, real)
        blocks = carray(data, threads.NUMBERS)[1]
        few = numbers[9] != 0 and _FEW * _count_active(x_F) < features
        mine = claim(data, 0)
        block = next_block(data, mine)
        while block >= 0:
            start, stop = first_row(pointers, block, blocks), first_row(pointers, block + 1, blocks)
            if few:
                column_pointers = carray(pointer(numbers[9]), features + 1, integer)
                row_indices = carray(pointer(numbers[10]), active, integer)
                permutation = carray(pointer(numbers[11]), active, integer)
                values = carray(pointer(numbers[2]), active, real)
                _add_columns(column_pointers, row_indices, permutation, values, bias, x_F, y_O, start, stop)
            else:
                _multiply(pointers, indices, values_1K, bias, x_F, y_O, lanes, start, stop)
            block = next_block(data, mine)

    return run.address


@cache
def backward_task(real, integer):
    """Compile the task that writes both gradients; its data: see `cpu.backward`, and the CSR of the weight behind."""
    lanes = _lanes(real)

    @TASK
    def run(data):
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        columns, active, outputs = numbers[10], numbers[11], numbers[12]
        column_pointers = carray(pointer(numbers[0]), columns + 1, integer)
        row_indices = carray(pointer(numbers[1]), active, integer)
        permutation = carray(pointer(numbers[2]), active, integer)
        values = carray(pointer(numbers[3]), active, real)
        x_F = carray(pointer(numbers[4]), columns, real)
        g_O = carray(pointer(numbers[5]), outputs, real)
        grad_x_F = carray(pointer(numbers[6]), columns, real)
        grad_values_1K = carray(pointer(numbers[7]), (1, active), real)
        pointers = carray(pointer(numbers[8]), outputs + 1, integer)
        indices = carray(pointer(numbers[9]), active, integer)
        blocks = carray(data, threads.NUMBERS)[1]
        mine = claim(data, 0)
        block = next_block(data, mine)
        while block >= 0:
            start, stop = first_row(column_pointers, block, blocks), first_row(column_pointers, block + 1, blocks)
            _multiply_transposed(column_pointers, row_indices, permutation, values, g_O, grad_x_F, lanes, start, stop)
            start, stop = first_row(pointers, block, blocks), first_row(pointers, block + 1, blocks)
            _sample(pointers, indices, g_O, x_F, grad_values_1K, lanes, start, stop)
            block = next_block(data, mine)

    return run.address


@cache
def sample_task(real, integer):
    """Compile the task that writes the gradient of the weights; its data: see `cpu.sample`."""
    lanes = _lanes(real)

    @TASK
    def run(data):
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        rows, active, features = numbers[5], numbers[6], numbers[7]
        pointers = carray(pointer(numbers[0]), rows + 1, integer)
        indices = carray(pointer(numbers[1]), active, integer)
        g_O = carray(pointer(numbers[2]), rows, real)
        x_F = carray(pointer(numbers[3]), features, real)
        grad_values_1K = carray(pointer(numbers[4]), (1, active), real)
        blocks = carray(data, threads.NUMBERS)[1]
        mine = claim(data, 0)
        block = next_block(data, mine)
        while block >= 0:
            start, stop = first_row(pointers, block, blocks), first_row(pointers, block + 1, blocks)
            _sample(pointers, indices, g_O, x_F, grad_values_1K, lanes, start, stop)
            block = next_block(data, mine)

    return run.address
