"""Both gradients in one walk of the columns: each row of the output's gradient is loaded once and serves twice.

Shapes: F = features in, O = features out, B = batch, K = active weights, L = lanes of a tile.

The gradients of the weights lie in the order of the rows and are written as they come, by columns. One stripe of the
outputs at a time, those that are written meanwhile lie close together. Columns begin with different stripes, the first
ones with the first, the last with the last: threads that walk different columns write to different rows then, and do
not take cache lines away from each other. Where a column begins depends on nothing else, so its sum has the same bits
on any number of threads.

Where the batch has several tiles, it is cut into groups of them, and each group sums the weights' gradient by itself:
no two threads write to the same. How many groups there are depends on the batch and the weights alone.
"""

from functools import cache

import numpy as np
from numba import carray, njit

from gossamer.kernels import threads
from gossamer.kernels.blocks import OPTIONS, TASK, first_row, group_tiles, next_block
from gossamer.kernels.panels import WIDEST, give, pack, take
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
    width_bytes,
    zero_where_not_positive,
)

# Sixteen registers do not hold a tile of the sum and one of x: x comes from the first cache again each time.
_RELOADS = WIDEST == 4


@njit(**OPTIONS)
def _columns(
    pointers, cursor, indices, permutation, values, x_FB, g, at, grad_x_FB, grad_values, column, count, opens,
    high, closes, ends, width, ragged, masked, striped, adds, bends, start, stop,
):  # fmt: skip
    """Add one stripe to one tile of the results; `g` is the gradient, or the panel of the stripe.

    `ragged`, `masked`, `striped`, `adds` and `bends` are () or (0,), see `forward`; `adds` says that an earlier tile
    has written the weights' gradient, `bends` that x came out of a ReLU.
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
        if len(bends) and ends:
            total = zero_where_not_positive(total, take(x_FB, feature, column, width, count, ragged))
        give(grad_x_FB, feature, column, total, count, ragged)


@njit(**OPTIONS)
def _tile(
    pointers, cursor, indices, permutation, values, x_FB, g, at, grad_x_FB, grad_values, column, count, opens,
    high, closes, ends, width, lanes, leads, masked, striped, bends, start, stop,
):  # fmt: skip
    """Choose the walk for this tile: a full one or the last, the first one or one that adds."""
    if count >= lanes and leads:
        _columns(
            pointers, cursor, indices, permutation, values, x_FB, g, at, grad_x_FB, grad_values, column, count,
            opens, high, closes, ends, width, (), (), striped, (), bends, start, stop,
        )  # fmt: skip
    elif count >= lanes:
        _columns(
            pointers, cursor, indices, permutation, values, x_FB, g, at, grad_x_FB, grad_values, column, count,
            opens, high, closes, ends, width, (), (), striped, (0,), bends, start, stop,
        )  # fmt: skip
    elif leads:
        _columns(
            pointers, cursor, indices, permutation, values, x_FB, g, at, grad_x_FB, grad_values, column, count,
            opens, high, closes, ends, width, (0,), masked, striped, (), bends, start, stop,
        )  # fmt: skip
    else:
        _columns(
            pointers, cursor, indices, permutation, values, x_FB, g, at, grad_x_FB, grad_values, column, count,
            opens, high, closes, ends, width, (0,), masked, striped, (0,), bends, start, stop,
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
def join_task(real):
    """Compile the task that adds up what the groups made of the weights' gradient; its data: see `cpu.backward`."""

    @TASK
    def run(data):
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        active, groups = numbers[2], numbers[3]
        grad_values = carray(pointer(numbers[0]), active, real)
        others = carray(pointer(numbers[1]), (groups - 1, active), real)
        blocks = carray(data, threads.NUMBERS)[1]
        mine = claim(data, 0)
        block = next_block(data, mine)
        while block >= 0:
            for group in range(groups - 1):
                for slot in range(active * block // blocks, active * (block + 1) // blocks):
                    grad_values[slot] += others[group, slot]
            block = next_block(data, mine)

    return run.address


@cache
def task(real, integer, width, striped, packs, bends):
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
        all_blocks, groups = carray(data, threads.NUMBERS)[1], numbers[16]
        blocks, num_tiles = all_blocks // groups, -(-batch // lanes)
        num_stripes = max(1, -(-outputs // stripe))
        mine = claim(data, 0)
        row_bytes = lanes * itemsize
        panels = numbers[9] + mine * stripe * row_bytes
        block = next_block(data, mine)
        while block >= 0:
            group, part = block // blocks, block % blocks
            start, stop = first_row(pointers, part, blocks), first_row(pointers, part + 1, blocks)
            first_tile, last_tile = group_tiles(num_tiles, group, groups)
            cursor = carray(pointer(numbers[8] + 8 * columns * group), columns, np.int64)
            sums = numbers[7] if group == 0 else numbers[17] + (group - 1) * active * itemsize
            grad_values = carray(pointer(sums), active, real)
            if numbers[15] != 0:
                grad_bias = carray(pointer(numbers[15]), outputs, real)
                _sums(g_OB, grad_bias, width, lanes, outputs * block // all_blocks, outputs * (block + 1) // all_blocks)
            for turn in range(num_stripes * num_stripes):
                share = turn % num_stripes
                first, last = (
                    max(start, columns * share // num_stripes),
                    min(stop, columns * (share + 1) // num_stripes),
                )
                if first >= last:
                    continue
                opens = turn < num_stripes
                ends = turn >= num_stripes * (num_stripes - 1)
                low = (share + turn // num_stripes) % num_stripes * stripe
                high = min(low + stripe, outputs)
                if len(striped) and (opens or low == 0):
                    _seek(pointers, indices, cursor, low, first, last)
                panel = carray(pointer(panels - low * row_bytes), (high, lanes), real)
                for tile in range(first_tile, last_tile):
                    column = tile * lanes
                    count = batch - column
                    closes, leads = tile + 1 == last_tile, tile == first_tile
                    if len(packs):
                        pack(g_OB, low, high, column, width, count, panel)
                        _tile(
                            pointers, cursor, indices, permutation, values, x_FB, panel, 0, grad_x_FB,
                            grad_values, column, count, opens, high, closes, ends, width, lanes, leads, (), striped,
                            bends, first, last,
                        )  # fmt: skip
                    else:
                        _tile(
                            pointers, cursor, indices, permutation, values, x_FB, g_OB, column, grad_x_FB,
                            grad_values, column, count, opens, high, closes, ends, width, lanes, leads, (0,), striped,
                            bends, first, last,
                        )  # fmt: skip
            block = next_block(data, mine)

    return run.address
