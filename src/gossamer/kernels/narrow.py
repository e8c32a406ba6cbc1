"""W x + b with narrow values, narrow places or both, and float32 sums: less to read for each product than CSR has.

Shapes: F = features in, O = outputs, B = batch, K = active weights, L = lanes of a tile. As `forward` has it,
but the values are widened on their way into the lanes, and the whole sum of a row is multiplied with its scale.
"""

from functools import cache

import numpy as np
import torch
from numba import carray, njit
from torch import Tensor

from gossamer.kernels import narrow_vector, panels, threads
from gossamer.kernels.blocks import OPTIONS, TASK, first_row, next_block
from gossamer.kernels.cpu import BLOCKS, flags, scratch
from gossamer.kernels.panels import pack, take
from gossamer.kernels.simd import (
    add,
    chains,
    claim,
    multiply_add,
    pick,
    pointer,
    put,
    splat,
    store,
    store_first,
    width_bytes,
)
from gossamer.kernels.simd_narrow import BEFORE, pick_four, pick_widened, splat_four, splat_widened

_NUMPY = {torch.bfloat16: np.uint16, torch.int8: np.int8, torch.float32: np.float32}
_NUMPY |= {torch.uint16: np.uint16, torch.int32: np.int32, torch.int64: np.int64}
DTYPES = (torch.bfloat16, torch.int8, torch.float32)


@njit(**OPTIONS)
def _add(indices, values, x, at, count, width, masked, slot, total):
    part = take(x, np.int64(pick(indices, slot)), at, width, count, masked)
    return multiply_add(splat_widened(values, slot, width), part, total)


# A sum in one narrow register waits four cycles for itself at each entry; several take turns. And four places and
# four int8 are loaded at once, for it is the loads that a narrow tile waits for.


@njit(**OPTIONS)
def _in_turns(indices, values, x, at, count, width, masked, slot, last, total):
    """Add the entries from `slot` on, as many times four as there are; return the sum and where it ended."""
    second = third = fourth = splat(np.float32(0), width)
    while slot + 4 <= last:
        places, factors = pick_four(indices, slot), splat_four(values, slot, width)
        total = multiply_add(factors[0], take(x, places[0], at, width, count, masked), total)
        second = multiply_add(factors[1], take(x, places[1], at, width, count, masked), second)
        if chains(width) == 4:
            third = multiply_add(factors[2], take(x, places[2], at, width, count, masked), third)
            fourth = multiply_add(factors[3], take(x, places[3], at, width, count, masked), fourth)
        else:
            total = multiply_add(factors[2], take(x, places[2], at, width, count, masked), total)
            second = multiply_add(factors[3], take(x, places[3], at, width, count, masked), second)
        slot += 4
    return add(add(total, second), add(third, fourth)) if chains(width) == 4 else add(total, second), slot


@njit(**OPTIONS)
def _in_stripe(indices, values, x, at, count, width, masked, slot, last, high, total):
    """Add the entries from `slot` on whose places are below `high`; return the sum and where they ended."""
    while slot + 4 <= last and np.int64(pick(indices, slot + 3)) < high:
        places, factors = pick_four(indices, slot), splat_four(values, slot, width)
        total = multiply_add(factors[0], take(x, places[0], at, width, count, masked), total)
        total = multiply_add(factors[1], take(x, places[1], at, width, count, masked), total)
        total = multiply_add(factors[2], take(x, places[2], at, width, count, masked), total)
        total = multiply_add(factors[3], take(x, places[3], at, width, count, masked), total)
        slot += 4
    while slot < last and np.int64(pick(indices, slot)) < high:
        total = _add(indices, values, x, at, count, width, masked, slot, total)
        slot += 1
    return total, slot


@njit(**OPTIONS)
def _first(indices, values, x, at, count, width, masked, slot, last, total):
    """Add the entries that have fewer than `BEFORE` before them."""
    while slot < min(BEFORE, last):
        part = take(x, np.int64(pick(indices, slot)), at, width, count, masked)
        total = multiply_add(splat(pick_widened(values, slot), width), part, total)
        slot += 1
    return total, slot


@njit(**OPTIONS)
def _rows(
    pointers, cursor, indices, values, scales, bias, x, at, y_OB, column, count, low, high, closes, ends,
    width, ragged, masked, striped, scaled, start, stop,
):  # fmt: skip
    """Add one stripe to one tile of the results; `x` is the batch, or the panel of the stripe.

    `closes` and `ends`: whether the tile is the last of the batch, the stripe the last of the input. `ragged`,
    `masked`, `striped` and `scaled` are () or (0,), known when the kernel is compiled: whether the tile goes beyond
    the batch, whether x must not be read there, whether there is more than one stripe, whether rows have scales.
    """
    for row in range(start, stop):
        last = np.int64(pick(pointers, row + 1))
        slot = np.int64(pick(cursor, row)) if len(striped) else np.int64(pick(pointers, row))
        total = splat(np.float32(0), width)
        if len(striped) and low > 0:
            total = take(y_OB, row, column, width, count, ragged)
        if slot < BEFORE and (not len(striped) or (slot < last and np.int64(pick(indices, slot)) < high)):
            total, slot = _first(indices, values, x, at, count, width, masked, slot, last, total)
        if not len(striped) and chains(width) > 1:
            total, slot = _in_turns(indices, values, x, at, count, width, masked, slot, last, total)
        if len(striped):
            total, slot = _in_stripe(indices, values, x, at, count, width, masked, slot, last, high, total)
        while slot < last and not len(striped):
            total = _add(indices, values, x, at, count, width, masked, slot, total)
            slot += 1
        if len(striped) and closes:
            put(cursor, row, slot)
        if ends:
            offset = splat(pick(bias, row), width)
            total = multiply_add(splat(pick(scales, row), width), total, offset) if len(scaled) else add(total, offset)
        if len(ragged):
            store_first(y_OB, row, column, total, count)
        else:
            store(y_OB, row, column, total)


@cache
def _task(number, place, integer, width, striped, packs, scaled):
    """Compile the task that writes W x + b; its data: see `multiply`."""
    row_bytes = width_bytes(width)
    lanes = row_bytes // 4

    @TASK
    def run(data):
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        rows, active, features, batch, stripe = numbers[9], numbers[10], numbers[11], numbers[12], numbers[13]
        pointers = carray(pointer(numbers[0]), rows + 1, integer)
        indices = carray(pointer(numbers[1]), active, place)
        values = carray(pointer(numbers[2]), active, number)
        scales = carray(pointer(numbers[3]), rows, np.float32)
        bias = carray(pointer(numbers[4]), rows, np.float32)
        x_FB = carray(pointer(numbers[5]), (features, batch), np.float32)
        y_OB = carray(pointer(numbers[6]), (rows, batch), np.float32)
        cursor = carray(pointer(numbers[7]), rows, np.int64)
        blocks = carray(data, threads.NUMBERS)[1]
        mine = claim(data, 0)
        panels = numbers[8] + mine * stripe * row_bytes
        block = next_block(data, mine)
        while block >= 0:
            start, stop = first_row(pointers, block, blocks), first_row(pointers, block + 1, blocks)
            if len(striped):
                for row in range(start, stop):
                    cursor[row] = pointers[row]
            for low in range(0, max(1, features), stripe):
                high = min(low + stripe, features)
                # As if it held the rows before the stripe too: no index needs to be moved.
                panel = carray(pointer(panels - low * row_bytes), (high, lanes), np.float32)
                for column in range(0, batch, lanes):
                    count = batch - column
                    closes, ends = count <= lanes, high >= features
                    if len(packs):
                        pack(x_FB, low, high, column, width, count, panel)
                        if count >= lanes:
                            _rows(
                                pointers, cursor, indices, values, scales, bias, panel, 0, y_OB, column, count,
                                low, high, closes, ends, width, (), (), striped, scaled, start, stop,
                            )  # fmt: skip
                        else:
                            _rows(
                                pointers, cursor, indices, values, scales, bias, panel, 0, y_OB, column, count,
                                low, high, closes, ends, width, (0,), (), striped, scaled, start, stop,
                            )  # fmt: skip
                    elif count >= lanes:
                        _rows(
                            pointers, cursor, indices, values, scales, bias, x_FB, column, y_OB, column, count,
                            low, high, closes, ends, width, (), (), striped, scaled, start, stop,
                        )  # fmt: skip
                    else:
                        _rows(
                            pointers, cursor, indices, values, scales, bias, x_FB, column, y_OB, column, count,
                            low, high, closes, ends, width, (0,), (0,), striped, scaled, start, stop,
                        )  # fmt: skip
            block = next_block(data, mine)

    return run.address


def takes(x: Tensor, values: Tensor, scales: Tensor | None, bias: Tensor) -> bool:
    """Return whether `multiply` takes these dtypes; a module whose `to` was called may have others."""
    floats = (x, bias) if scales is None else (x, bias, scales)
    return values.dtype in DTYPES and all(part.dtype == torch.float32 for part in floats)


def multiply(
    pointers: Tensor,
    indices: Tensor,
    values: Tensor,
    scales: Tensor | None,
    bias: Tensor,
    x_FB: Tensor,
    y_OB: Tensor,
) -> None:
    """Write W x + b to y, each row of W times its scale.

    Args:
        pointers: of the rows of W, shape [O + 1], int32 or int64.
        indices: column of each entry, ascending in a row, shape [K], uint16, int32 or int64.
        values: shape [K], one of `DTYPES`.
        scales: float32, shape [O]; None for ones.
        bias: float32, shape [O].
        x_FB: float32, contiguous, on the CPU.
        y_OB: float32, contiguous.
    """
    features, batch = x_FB.shape
    rows, active, team = pointers.numel() - 1, indices.numel(), torch.get_num_threads()
    kinds = _NUMPY[values.dtype], _NUMPY[indices.dtype], _NUMPY[pointers.dtype]
    scaled = () if scales is None else (0,)
    tensors = (pointers, indices, values, bias if scales is None else scales, bias, x_FB, y_OB)
    addresses = [tensor.data_ptr() for tensor in tensors]
    if batch == 1:
        task = narrow_vector.task(*kinds, scaled)
        return threads.run(task, [*addresses, rows, active, features], num_blocks=BLOCKS * team)
    cut = panels.plan(
        rows=rows, gathered=features, active=active, batch=batch, itemsize=4, team=team, widest=panels.WIDEST
    )
    cursor, room, _ = scratch(cut, rows)
    threads.run(
        _task(*kinds, *flags(cut), scaled),
        [*addresses, cursor, room, rows, active, features, batch, cut.stripe],
        num_blocks=cut.num_blocks,
    )
    return None
