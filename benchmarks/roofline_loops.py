# mypy: ignore-errors
"""The loops of `roofline.py`, in Numba over the vector values of the kernels."""

from functools import cache

import numpy as np
from numba import carray, njit

from gossamer.kernels import threads
from gossamer.kernels.blocks import TASK
from gossamer.kernels.simd import CHUNK_BYTES, claim, dot, load, multiply_add, pointer, splat

LANES = CHUNK_BYTES // 4


@njit(nogil=True, error_model="numpy", cache=True)
def _chain(x_RC, width, repeats):
    factor = splat(np.float32(0.999), width)
    a = b = c = d = e = load(x_RC, 0, 0, width)
    for _ in range(repeats):
        a = multiply_add(a, factor, a)
        b = multiply_add(b, factor, b)
        c = multiply_add(c, factor, c)
        d = multiply_add(d, factor, d)
        e = multiply_add(e, factor, e)
    return dot(a, b) + dot(c, d) + dot(e, factor)


@njit(nogil=True, error_model="numpy", cache=True)
def _read(x_RC, width, repeats):
    factor = splat(np.float32(0.5), width)
    total = splat(np.float32(0), width)
    for _ in range(repeats):
        for row in range(x_RC.shape[0]):
            total = multiply_add(factor, load(x_RC, row, 0, width), total)
    return dot(total, factor)


@cache
def make(reads, width):
    columns = len(width) * LANES

    @TASK
    def task(data):
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        mine = claim(data, 0)
        rows, repeats = numbers[0], numbers[1]
        buffers = carray(pointer(numbers[2]), (numbers[3], rows, columns), np.float32)
        sums = carray(pointer(numbers[4]), numbers[3], np.float32)
        if reads:
            sums[mine] = _read(buffers[mine], width, repeats)
        else:
            sums[mine] = _chain(buffers[mine], width, repeats)

    return task.address
