"""Both gradients in one walk of the columns: each row of the output's gradient is loaded once and serves twice.

Shapes: F = features in, O = features out, B = batch, K = active weights, L = lanes of a tile.

The gradients of the weights lie in the order of the rows and are written as they come, by columns. One stripe of the
outputs at a time, those that are written meanwhile lie close together. Columns begin with different stripes, the first
ones with the first, the last with the last: threads that walk different columns write to different rows then, and do
not take cache lines away from each other. Where a column begins depends on nothing else, so its sum has the same bits
on any number of threads.
"""

from functools import cache

import numpy as np
from numba import carray, njit

from gossamer.kernels import threads
from gossamer.kernels.blocks import OPTIONS, TASK, first_row, next_block
from gossamer.kernels.panels import WIDEST, pack, take
from gossamer.kernels.simd import (
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
    width_bytes,
)

# Sixteen registers do not hold a tile of the sum and one of x: x comes from the first cache again each time.
_RELOADS = WIDEST == 4


@njit(**OPTIONS)
def _columns(
    pointers, cursor, indices, permutation, values, x_FB, g, at, grad_x_FB, grad_values, column, count, opens,
    high, closes, width, ragged, masked, striped, adds, start, stop,
):  # fmt: skip
    """Add one stripe to one tile of the results; `g` is the gradient, or the panel of the stripe.

    `ragged`, `masked`, `striped` and `adds` are () or (0,), see `forward`; `adds` says that an earlier tile has written
    the weights' gradient.
    """
    for feature in range(start, stop):
        if len(striped) and not opens:
            total = take(grad_x_FB, feature, column, width, count, ragged)
        else:
            total = splat(values.dtype.type(0), width)
        if not _RELOADS:
            x = take(x_FB, feature, column, width, count, ragged)
        slot = np.int64(pick(cursor, feature)) if len(striped) else np.int64(pick(pointers, feature))
        last = np.int64(pick(pointers, feature + 1))
        while slot < last:
            index = np.int64(pick(indices, slot))
            if len(striped) and index >= high:
                break
            part = take(g, index, at, width, count, masked)
            place = np.int64(pick(permutation, slot))
            total = multiply_add(splat(pick(values, place), width), part, total)
            if _RELOADS:
                x = take(x_FB, feature, column, width, count, ragged)
            # Stored, not added, in the first tile: reading what is to be overwritten costs a third of the time.
            if len(adds):
                put(grad_values, place, pick(grad_values, place) + dot(x, part))
            else:
                put(grad_values, place, dot(x, part))
            slot += 1
        if len(striped) and closes:
            put(cursor, feature, slot)
        if len(ragged):
            store_first(grad_x_FB, feature, column, total, count)
        else:
            store(grad_x_FB, feature, column, total)


@njit(**OPTIONS)
def _tile(
    pointers, cursor, indices, permutation, values, x_FB, g, at, grad_x_FB, grad_values, column, count, opens,
    high, closes, width, lanes, masked, striped, start, stop,
):  # fmt: skip
    """Choose the walk for this tile: a full one or the last, the first one or one that adds."""
    if count >= lanes and column == 0:
        _columns(
            pointers, cursor, indices, permutation, values, x_FB, g, at, grad_x_FB, grad_values, column, count,
            opens, high, closes, width, (), (), striped, (), start, stop,
        )  # fmt: skip
    elif count >= lanes:
        _columns(
            pointers, cursor, indices, permutation, values, x_FB, g, at, grad_x_FB, grad_values, column, count,
            opens, high, closes, width, (), (), striped, (0,), start, stop,
        )  # fmt: skip
    elif column == 0:
        _columns(
            pointers, cursor, indices, permutation, values, x_FB, g, at, grad_x_FB, grad_values, column, count,
            opens, high, closes, width, (0,), masked, striped, (), start, stop,
        )  # fmt: skip
    else:
        _columns(
            pointers, cursor, indices, permutation, values, x_FB, g, at, grad_x_FB, grad_values, column, count,
            opens, high, closes, width, (0,), masked, striped, (0,), start, stop,
        )  # fmt: skip


@njit(**OPTIONS)
def _seek(pointers, indices, cursor, low, start, stop):
    """Set the cursor of each column to its first entry from row `low` on."""
    for feature in range(start, stop):
        left, right = np.int64(pointers[feature]), np.int64(pointers[feature + 1])
        while left < right:
            middle = (left + right) // 2
            if np.int64(pick(indices, middle)) < low:
                left = middle + 1
            else:
                right = middle
        cursor[feature] = left


@njit(**OPTIONS)
def _sums(g_OB, grad_bias, width, lanes, start, stop):
    """Sum rows of the gradient over the batch."""
    batch = g_OB.shape[1]
    one = splat(g_OB.dtype.type(1), width)
    for row in range(start, stop):
        total = g_OB.dtype.type(0)
        for column in range(0, batch, lanes):
            if batch - column >= lanes:
                total += dot(load(g_OB, row, column, width), one)
            else:
                total += dot(load_first(g_OB, row, column, width, batch - column), one)
        grad_bias[row] = total


@cache
def task(real, integer, width, striped, packs):
    """Compile the task that writes both gradients; its data: see `cpu.backward`."""
    itemsize = np.dtype(real).itemsize
    lanes = width_bytes(width) // itemsize

    @TASK
    def run(data):
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        columns, active, outputs, batch, stripe = numbers[10], numbers[11], numbers[12], numbers[13], numbers[14]
        pointers = carray(pointer(numbers[0]), columns + 1, integer)
        indices = carray(pointer(numbers[1]), active, integer)
        permutation = carray(pointer(numbers[2]), active, integer)
        values = carray(pointer(numbers[3]), active, real)
        x_FB = carray(pointer(numbers[4]), (columns, batch), real)
        g_OB = carray(pointer(numbers[5]), (outputs, batch), real)
        grad_x_FB = carray(pointer(numbers[6]), (columns, batch), real)
        grad_values = carray(pointer(numbers[7]), active, real)
        cursor = carray(pointer(numbers[8]), columns, np.int64)
        blocks = carray(data, threads.NUMBERS)[1]
        num_stripes = max(1, -(-outputs // stripe))
        mine = claim(data, 0)
        row_bytes = lanes * itemsize
        panels = numbers[9] + mine * stripe * row_bytes
        block = next_block(data, mine)
        while block >= 0:
            start, stop = first_row(pointers, block, blocks), first_row(pointers, block + 1, blocks)
            if numbers[15] != 0:
                grad_bias = carray(pointer(numbers[15]), outputs, real)
                _sums(g_OB, grad_bias, width, lanes, outputs * block // blocks, outputs * (block + 1) // blocks)
            for turn in range(num_stripes * num_stripes):
                group = turn % num_stripes
                first, last = (
                    max(start, columns * group // num_stripes),
                    min(stop, columns * (group + 1) // num_stripes),
                )
                if first >= last:
                    continue
                opens = turn < num_stripes
                low = (group + turn // num_stripes) % num_stripes * stripe
                high = min(low + stripe, outputs)
                if len(striped) and (opens or low == 0):
                    _seek(pointers, indices, cursor, low, first, last)
                panel = carray(pointer(panels - low * row_bytes), (high, lanes), real)
                for column in range(0, batch, lanes):
                    count = batch - column
                    if len(packs):
                        pack(g_OB, low, high, column, width, count, panel)
                        _tile(
                            pointers, cursor, indices, permutation, values, x_FB, panel, 0, grad_x_FB,
                            grad_values, column, count, opens, high, count <= lanes, width, lanes, (), striped, first,
                            last,
                        )  # fmt: skip
                    else:
                        _tile(
                            pointers, cursor, indices, permutation, values, x_FB, g_OB, column, grad_x_FB,
                            grad_values, column, count, opens, high, count <= lanes, width, lanes, (0,), striped,
                            first, last,
                        )  # fmt: skip
            block = next_block(data, mine)

    return run.address
