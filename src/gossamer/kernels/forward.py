"""W x + b: each row's sum stays in the registers while its entries are walked, stripe by stripe of the input.

A block is a stretch of rows for a group of the batch's tiles. A thread keeps to its group, from one layer to the next
too, so that what it gathers is in its own cache and not in that of the thread beside it.

Shapes: F = features in, O = features out, B = batch, K = active weights, L = lanes of a tile.
"""

from functools import cache

import numpy as np
from numba import carray, njit

from gossamer.kernels import threads
from gossamer.kernels.blocks import OPTIONS, TASK, first_row, group_tiles, next_block
from gossamer.kernels.panels import give, pack, take
from gossamer.kernels.simd import (
    add,
    chains,
    claim,
    multiply_add,
    pick,
    pointer,
    put,
    splat,
    width_bytes,
    zero_where_negative,
)


@njit(**OPTIONS)
def _add(indices, values, x, at, count, width, masked, slot, total):
    part = take(x, np.int64(pick(indices, slot)), at, width, count, masked)
    return multiply_add(splat(pick(values, slot), width), part, total)


# A sum in one narrow register waits four cycles for itself at each entry; several take turns.


@njit(**OPTIONS)
def _four_chains(indices, values, x, at, count, width, masked, slot, last, total):
    """Add the entries from `slot` on to a sum, as many times four as there are."""
    second = third = fourth = splat(values.dtype.type(0), width)
    while slot + 4 <= last:
        total = _add(indices, values, x, at, count, width, masked, slot, total)
        second = _add(indices, values, x, at, count, width, masked, slot + 1, second)
        third = _add(indices, values, x, at, count, width, masked, slot + 2, third)
        fourth = _add(indices, values, x, at, count, width, masked, slot + 3, fourth)
        slot += 4
    return add(add(total, second), add(third, fourth))


@njit(**OPTIONS)
def _two_chains(indices, values, x, at, count, width, masked, slot, last, total):
    """Add the entries from `slot` on to a sum, as many times two as there are."""
    second = splat(values.dtype.type(0), width)
    while slot + 2 <= last:
        total = _add(indices, values, x, at, count, width, masked, slot, total)
        second = _add(indices, values, x, at, count, width, masked, slot + 1, second)
        slot += 2
    return add(total, second)


@njit(**OPTIONS)
def _rows(
    pointers, cursor, indices, values, bias, x, at, y_OB, column, count, low, high, closes, ends,
    width, ragged, masked, striped, bends, start, stop,
):  # fmt: skip
    """Add one stripe to one tile of the results; `x` is the batch, or the panel of the stripe.

    `ragged`, `masked`, `striped` and `bends` are () or (0,), known when the kernel is compiled: whether the tile goes
    beyond the batch, whether x must not be read there, whether there is more than one stripe, whether a ReLU follows.
    """
    for row in range(start, stop):
        if len(striped) and low > 0:  # noqa: SIM108
            total = take(y_OB, row, column, width, count, ragged)
        else:
            total = splat(bias[row], width)
        slot = np.int64(pick(cursor, row)) if len(striped) else np.int64(pick(pointers, row))
        last = np.int64(pick(pointers, row + 1))
        if not len(striped) and chains(width) == 4:
            total = _four_chains(indices, values, x, at, count, width, masked, slot, last, total)
            slot = last - (last - slot) % 4
        elif not len(striped) and chains(width) == 2:
            total = _two_chains(indices, values, x, at, count, width, masked, slot, last, total)
            slot = last - (last - slot) % 2
        while slot < last:
            if len(striped) and np.int64(pick(indices, slot)) >= high:
                break
            total = _add(indices, values, x, at, count, width, masked, slot, total)
            slot += 1
        if len(striped) and closes:
            put(cursor, row, slot)
        if len(bends) and (not len(striped) or ends):
            total = zero_where_negative(total)
        give(y_OB, row, column, total, count, ragged)


@cache
def task(real, integer, width, striped, packs, bends):
    """Compile the task that writes W x + b; its data: see `cpu.multiply`."""
    itemsize = np.dtype(real).itemsize
    lanes = width_bytes(width) // itemsize

    @TASK
    def run(data):
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        rows, active, features, batch, stripe = numbers[8], numbers[9], numbers[10], numbers[11], numbers[12]
        groups = numbers[13]
        pointers = carray(pointer(numbers[0]), rows + 1, integer)
        indices = carray(pointer(numbers[1]), active, integer)
        values = carray(pointer(numbers[2]), active, real)
        bias = carray(pointer(numbers[3]), rows, real)
        x_FB = carray(pointer(numbers[4]), (features, batch), real)
        y_OB = carray(pointer(numbers[5]), (rows, batch), real)
        blocks = carray(data, threads.NUMBERS)[1] // groups
        num_tiles = -(-batch // lanes)
        mine = claim(data, 0)
        row_bytes = lanes * itemsize
        panels = numbers[7] + mine * stripe * row_bytes
        block = next_block(data, mine)
        while block >= 0:
            group, part = block // blocks, block % blocks
            start, stop = first_row(pointers, part, blocks), first_row(pointers, part + 1, blocks)
            first, last = group_tiles(num_tiles, group, groups)
            cursor = carray(pointer(numbers[6] + 8 * rows * group), rows, np.int64)
            if len(striped):
                for row in range(start, stop):
                    cursor[row] = pointers[row]
            for low in range(0, max(1, features), stripe):
                high = min(low + stripe, features)
                # As if it held the rows before the stripe too: no index needs to be moved.
                panel = carray(pointer(panels - low * row_bytes), (high, lanes), real)
                ends = high == features
                for tile in range(first, last):
                    column = tile * lanes
                    count = batch - column
                    closes = tile + 1 == last
                    if len(packs):
                        pack(x_FB, low, high, column, width, count, panel)
                        if count >= lanes:
                            _rows(
                                pointers, cursor, indices, values, bias, panel, 0, y_OB, column, count, low,
                                high, closes, ends, width, (), (), striped, bends, start, stop,
                            )  # fmt: skip
                        else:
                            _rows(
                                pointers, cursor, indices, values, bias, panel, 0, y_OB, column, count, low,
                                high, closes, ends, width, (0,), (), striped, bends, start, stop,
                            )  # fmt: skip
                    elif count >= lanes:
                        _rows(
                            pointers, cursor, indices, values, bias, x_FB, column, y_OB, column, count, low,
                            high, closes, ends, width, (), (), striped, bends, start, stop,
                        )  # fmt: skip
                    else:
                        _rows(
                            pointers, cursor, indices, values, bias, x_FB, column, y_OB, column, count, low,
                            high, closes, ends, width, (0,), (0,), striped, bends, start, stop,
                        )  # fmt: skip
            block = next_block(data, mine)

    return run.address
