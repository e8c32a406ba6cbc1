"""W x + b for weights of bfloat16 or int8 with float32 sums: less to read for each product than CSR of float32 has.

Shapes: F = features in, O = outputs, B = batch, K = active weights, L = lanes of a tile. The values of a row are widened
sixteen at a time into a stretch of memory that stays in the first cache, and multiplied from there: to widen them one
by one would take as long as a narrow tile's product.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import torch
from numba import carray, njit
from torch import Tensor

from gossamer.kernels import narrow_vector, panels, threads
from gossamer.kernels.blocks import OPTIONS, TASK, first_row, next_block
from gossamer.kernels.cpu import _BLOCKS, _flags, _scratch
from gossamer.kernels.panels import pack, take
from gossamer.kernels.simd import (
    CHUNK_BYTES,
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
from gossamer.kernels.simd_narrow import pick_float, widen, widen_first
from gossamer.kernels.tiles import store_lanes

_NUMPY = {torch.bfloat16: np.uint16, torch.int8: np.int8, torch.float32: np.float32}
_NUMPY |= {torch.uint16: np.uint16, torch.int32: np.int32, torch.int64: np.int64}
DTYPES = (torch.bfloat16, torch.int8, torch.float32)
_LANES = (0,) * (CHUNK_BYTES // 4)
# Values that are widened at once: few enough for the first cache, many enough for sums that take turns.
_STRETCH = 1024


@njit(**OPTIONS)
def _widen(values, slot, wide):
    """Write as many values as `wide` holds to it, from `slot` on; behind the last one of the weight comes nothing."""
    count = min(wide.size, (values.size - slot) // 16 * 16)
    for place in range(0, count, 16):
        store_lanes(wide, place, widen(values, slot + place, _LANES))
    if count < wide.size and slot + count < values.size:
        store_lanes(wide, count, widen_first(values, slot + count, _LANES, values.size - slot - count))


@njit(**OPTIONS)
def _add(indices, wide, x, at, count, width, masked, slot, place, total):
    part = take(x, np.int64(pick(indices, slot)), at, width, count, masked)
    return multiply_add(splat(pick(wide, place), width), part, total)


# A sum in one narrow register waits four cycles for itself at each entry; several take turns.


@njit(**OPTIONS)
def _stretch(indices, wide, x, at, count, width, masked, base, place, active, total):
    """Add entries to the sum of their row: those whose widened values stand from `place` up to `active`."""
    if chains(width) == 4:
        second = third = fourth = splat(wide.dtype.type(0), width)
        while place + 4 <= active:
            total = _add(indices, wide, x, at, count, width, masked, base + place, place, total)
            second = _add(indices, wide, x, at, count, width, masked, base + place + 1, place + 1, second)
            third = _add(indices, wide, x, at, count, width, masked, base + place + 2, place + 2, third)
            fourth = _add(indices, wide, x, at, count, width, masked, base + place + 3, place + 3, fourth)
            place += 4
        total = add(add(total, second), add(third, fourth))
    elif chains(width) == 2:
        second = splat(wide.dtype.type(0), width)
        while place + 2 <= active:
            total = _add(indices, wide, x, at, count, width, masked, base + place, place, total)
            second = _add(indices, wide, x, at, count, width, masked, base + place + 1, place + 1, second)
            place += 2
        total = add(total, second)
    while place < active:
        total = _add(indices, wide, x, at, count, width, masked, base + place, place, total)
        place += 1
    return total


@njit(**OPTIONS)
def _stripe(indices, values, x, at, count, width, masked, slot, last, high, total):
    """Add the entries of a stripe; return the sum and where the next stripe begins."""
    while slot < last:
        index = np.int64(pick(indices, slot))
        if index >= high:
            break
        part = take(x, index, at, width, count, masked)
        total = multiply_add(splat(pick_float(values, slot), width), part, total)
        slot += 1
    return total, slot


@njit(**OPTIONS)
def _rows(
    pointers, cursor, indices, values, scales, bias, wide, x, at, y_OB, column, count, low, high, closes, ends,
    width, ragged, masked, striped, scaled, start, stop,
):  # fmt: skip
    """Add one stripe to one tile of the results; `x` is the batch, or the panel of the stripe.

    `closes` and `ends`: whether the tile is the last of the batch, the stripe the last of the input. `ragged`, `masked`,
    `striped` and `scaled` are () or (0,), known when the kernel is compiled: whether the tile goes beyond the batch,
    whether x must not be read there, whether there is more than one stripe, whether rows have scales.
    """
    # The values of rows that follow each other follow each other too: more than one row's are widened at once.
    base = end = np.int64(-1)
    for row in range(start, stop):
        last = np.int64(pick(pointers, row + 1))
        total = splat(wide.dtype.type(0), width)
        if len(striped):
            if low > 0:
                total = take(y_OB, row, column, width, count, ragged)
            slot = np.int64(pick(cursor, row))
            total, slot = _stripe(indices, values, x, at, count, width, masked, slot, last, high, total)
            if closes:
                put(cursor, row, slot)
        else:
            slot = np.int64(pick(pointers, row))
            while slot < last:
                if end < min(last, slot + wide.size):
                    base, end = slot, slot + wide.size
                    _widen(values, base, wide)
                active = min(last, end) - base
                total = _stretch(indices, wide, x, at, count, width, masked, base, slot - base, active, total)
                slot = base + active
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
        rows, active, features, batch, stripe, panel_bytes = (
            numbers[9], numbers[10], numbers[11], numbers[12], numbers[13], numbers[14],
        )  # fmt: skip
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
        scratch = numbers[8] + mine * panel_bytes
        wide = carray(pointer(scratch), _STRETCH, np.float32)
        block = next_block(data, mine)
        while block >= 0:
            start, stop = first_row(pointers, block, blocks), first_row(pointers, block + 1, blocks)
            if len(striped):
                for row in range(start, stop):
                    cursor[row] = pointers[row]
            for low in range(0, max(1, features), stripe):
                high = min(low + stripe, features)
                # As if it held the rows before the stripe too: no index needs to be moved.
                panel = carray(pointer(scratch + 4 * _STRETCH - low * row_bytes), (high, lanes), np.float32)
                for column in range(0, batch, lanes):
                    count = batch - column
                    closes, ends = count <= lanes, high >= features
                    if len(packs):
                        pack(x_FB, low, high, column, width, count, panel)
                        if count >= lanes:
                            _rows(
                                pointers, cursor, indices, values, scales, bias, wide, panel, 0, y_OB, column, count,
                                low, high, closes, ends, width, (), (), striped, scaled, start, stop,
                            )  # fmt: skip
                        else:
                            _rows(
                                pointers, cursor, indices, values, scales, bias, wide, panel, 0, y_OB, column, count,
                                low, high, closes, ends, width, (0,), (), striped, scaled, start, stop,
                            )  # fmt: skip
                    elif count >= lanes:
                        _rows(
                            pointers, cursor, indices, values, scales, bias, wide, x_FB, column, y_OB, column, count,
                            low, high, closes, ends, width, (), (), striped, scaled, start, stop,
                        )  # fmt: skip
                    else:
                        _rows(
                            pointers, cursor, indices, values, scales, bias, wide, x_FB, column, y_OB, column, count,
                            low, high, closes, ends, width, (0,), (0,), striped, scaled, start, stop,
                        )  # fmt: skip
            block = next_block(data, mine)

    return run.address


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
        return threads.run(task, [*addresses, rows, active, features], num_blocks=_BLOCKS * team)
    cut = _plan(rows, features, active, batch, team)
    cursor, scratch = _scratch(cut, rows)
    threads.run(
        _task(*kinds, *_flags(cut), scaled),
        [*addresses, cursor, scratch, rows, active, features, batch, cut.stripe, cut.panel_bytes],
        num_blocks=cut.num_blocks,
    )
    return None


@cache
def _plan(rows: int, features: int, active: int, batch: int, team: int) -> panels.Plan:
    """The plan of the float32 product, and room for widened values before each panel."""
    cut = panels.plan(
        rows=rows, gathered=features, active=active, batch=batch, itemsize=4, team=team, widest=panels.WIDEST
    )
    panel_bytes = -(-(4 * _STRETCH + cut.panel_bytes) // CHUNK_BYTES) * CHUNK_BYTES
    return replace(cut, panel_bytes=panel_bytes)
