"""The same for a single sample: a row's entries fill the lanes, sixteen values are widened and sixteen inputs gathered.

Shapes: F = features in, O = outputs, K = active weights.
"""

from functools import cache

import numpy as np
from numba import carray, njit

from gossamer.kernels import threads
from gossamer.kernels.blocks import OPTIONS, TASK, next_rows
from gossamer.kernels.gather import gather, gather_first
from gossamer.kernels.simd import CHUNK_BYTES, add, claim, dot, multiply_add, pick, pointer, put, splat
from gossamer.kernels.simd_narrow import widen, widen_first

_WIDTH = (0,)
_LANES = (0,) * (CHUNK_BYTES // 4)


@njit(**OPTIONS)
def _multiply(pointers, indices, values, scales, bias, x_F, y_O, scaled, start, stop):
    zero, one = splat(np.float32(0), _WIDTH), splat(np.float32(1), _WIDTH)
    slot = np.int64(pick(pointers, start))
    for row in range(start, stop):
        last = np.int64(pick(pointers, row + 1))
        total = second = zero
        while slot + 32 <= last:
            total = multiply_add(widen(values, slot, _LANES), gather(x_F, indices, slot, _LANES), total)
            slot += 16
            second = multiply_add(widen(values, slot, _LANES), gather(x_F, indices, slot, _LANES), second)
            slot += 16
        if slot + 16 <= last:
            total = multiply_add(widen(values, slot, _LANES), gather(x_F, indices, slot, _LANES), total)
            slot += 16
        if slot < last:
            rest = last - slot
            part = gather_first(x_F, indices, slot, _LANES, rest)
            second = multiply_add(widen_first(values, slot, _LANES, rest), part, second)
            slot = last
        result = dot(add(total, second), one)
        put(y_O, row, pick(scales, row) * result + pick(bias, row) if len(scaled) else result + pick(bias, row))


@cache
def task(number, place, integer, scaled):
    """Compile the task that writes W x + b; its data: see `narrow.multiply`."""

    @TASK
    def run(data):
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        rows, active, features = numbers[7], numbers[8], numbers[9]
        pointers = carray(pointer(numbers[0]), rows + 1, integer)
        indices = carray(pointer(numbers[1]), active, place)
        values = carray(pointer(numbers[2]), active, number)
        scales = carray(pointer(numbers[3]), rows, np.float32)
        bias = carray(pointer(numbers[4]), rows, np.float32)
        x_F = carray(pointer(numbers[5]), features, np.float32)
        y_O = carray(pointer(numbers[6]), rows, np.float32)
        mine = claim(data, 0)
        start, stop = next_rows(data, mine, pointers)
        while start >= 0:
            _multiply(pointers, indices, values, scales, bias, x_F, y_O, scaled, start, stop)
            start, stop = next_rows(data, mine, pointers)

    return run.address
