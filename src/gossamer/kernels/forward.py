"""W x + b: each row's sum stays in the registers while its entries are walked, stripe by stripe of the input.

Shapes: F = features in, O = features out, B = batch, K = active weights, L = lanes of a tile.
"""

from functools import cache

import numpy as np
from numba import carray, njit

from gossamer.kernels import threads
from gossamer.kernels.blocks import OPTIONS, TASK, first_row, next_block
from gossamer.kernels.panels import pack, take
from gossamer.kernels.simd import claim, multiply_add, pick, pointer, put, splat, store, store_first, width_bytes


@njit(**OPTIONS)
def _rows(
    pointers, cursor, indices, values, bias, x, at, shift, y_OB, column, count, low, high, closes,
    width, ragged, masked, striped, start, stop,
):  # fmt: skip
    """Add one stripe to one tile of the results; `x` is the batch, or the panel of the stripe (then moved by `shift`).

    `ragged`, `masked` and `striped` are () or (0,), known when the kernel is compiled: whether the tile goes beyond the
    batch, whether x must not be read there, whether there is more than one stripe.
    """
    for row in range(start, stop):
        if len(striped) and low > 0:  # noqa: SIM108
            total = take(y_OB, row, column, width, count, ragged)
        else:
            total = splat(bias[row], width)
        slot = np.int64(pick(cursor, row)) if len(striped) else np.int64(pick(pointers, row))
        last = np.int64(pick(pointers, row + 1))
        while slot < last:
            index = np.int64(pick(indices, slot))
            if len(striped) and index >= high:
                break
            part = take(x, index - shift, at, width, count, masked)
            total = multiply_add(splat(pick(values, slot), width), part, total)
            slot += 1
        if len(striped) and closes:
            put(cursor, row, slot)
        if len(ragged):
            store_first(y_OB, row, column, total, count)
        else:
            store(y_OB, row, column, total)


@cache
def task(real, integer, width, striped, packs):
    """Compile the task that writes W x + b; its data: see `cpu.multiply`."""
    itemsize = np.dtype(real).itemsize
    lanes = width_bytes(width) // itemsize

    @TASK
    def run(data):
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        rows, active, features, batch, stripe = numbers[8], numbers[9], numbers[10], numbers[11], numbers[12]
        pointers = carray(pointer(numbers[0]), rows + 1, integer)
        indices = carray(pointer(numbers[1]), active, integer)
        values = carray(pointer(numbers[2]), active, real)
        bias = carray(pointer(numbers[3]), rows, real)
        x_FB = carray(pointer(numbers[4]), (features, batch), real)
        y_OB = carray(pointer(numbers[5]), (rows, batch), real)
        cursor = carray(pointer(numbers[6]), rows, np.int64)
        blocks = carray(data, threads.NUMBERS)[1]
        mine = claim(data, 0)
        panel = carray(pointer(numbers[7] + mine * stripe * lanes * itemsize), (stripe, lanes), real)
        block = next_block(data, mine)
        while block >= 0:
            start, stop = first_row(pointers, block, blocks), first_row(pointers, block + 1, blocks)
            if len(striped):
                for row in range(start, stop):
                    cursor[row] = pointers[row]
            for low in range(0, max(1, features), stripe):
                high = min(low + stripe, features)
                for column in range(0, batch, lanes):
                    count = batch - column
                    closes = count <= lanes
                    if len(packs):
                        pack(x_FB, low, high, column, width, count, panel)
                        if count >= lanes:
                            _rows(
                                pointers, cursor, indices, values, bias, panel, 0, low, y_OB, column, count, low,
                                high, closes, width, (), (), striped, start, stop,
                            )  # fmt: skip
                        else:
                            _rows(
                                pointers, cursor, indices, values, bias, panel, 0, low, y_OB, column, count, low,
                                high, closes, width, (0,), (), striped, start, stop,
                            )  # fmt: skip
                    elif count >= lanes:
                        _rows(
                            pointers, cursor, indices, values, bias, x_FB, column, 0, y_OB, column, count, low,
                            high, closes, width, (), (), striped, start, stop,
                        )  # fmt: skip
                    else:
                        _rows(
                            pointers, cursor, indices, values, bias, x_FB, column, 0, y_OB, column, count, low,
                            high, closes, width, (0,), (0,), striped, start, stop,
                        )  # fmt: skip
            block = next_block(data, mine)

    return run.address
