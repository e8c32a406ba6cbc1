"""Sparse convolutions in Numba: nothing is unfolded, and only the weights that exist are touched.

Shapes: N = batch, C = channels in, O = channels out, H x W = image, K = active weights. See `conv_plan` for the walk.

A tile of the target is kept in registers while the entries of one row of the topology are added up; the channels are
taken in blocks whose part of the scratch stays in the first cache, and between two blocks the tiles of all rows wait
in memory. One thread owns a result and adds in an order that depends on the sizes alone.
"""

from functools import cache

import numba
import numpy as np
import torch
from numba import carray
from torch import Tensor

from gossamer.kernels import threads
from gossamer.kernels.blocks import NUMPY, OPTIONS, TASK, first_row, next_block
from gossamer.kernels.conv_images import (
    BLOCK_COLUMNS,
    CHANNEL_STRIDE,
    COUNT,
    GROUPS,
    PACKED_STRIDE,
    ROW_COLUMNS,
    SOURCE_CHANNELS,
    TILES_HEIGHT,
    TILES_WIDTH,
    of_portion,
    pack_source,
    put,
)
from gossamer.kernels.conv_plan import Plan
from gossamer.kernels.simd import CHUNK_BYTES, claim, pointer
from gossamer.kernels.simd_rows import add_scaled_rows, load_rows, peek, splat_rows, store_rows


@numba.njit(**OPTIONS)
def _multiply_tile(
    numbers, table, pointers, indices, values, permutation, bias, packed, target, sums, cursors, where, tile_row,
    tile_column, first, last, height, width, permuted, lanes,
):  # fmt: skip
    stride, groups = numbers[PACKED_STRIDE], numbers[GROUPS]
    floats = len(height) * len(width) * lanes
    base = tile_row * len(height) * stride + tile_column * len(width) * lanes
    rows = (pointers.size - 1) // groups
    group_base = numbers[SOURCE_CHANNELS] // groups * numbers[CHANNEL_STRIDE]
    waiting = sums[(pointers.size - 1) * floats :]
    for row in range(first, last):
        cursors[row] = pointers[row]
    columns = numbers[ROW_COLUMNS]
    for limit in range(numbers[BLOCK_COLUMNS], columns + numbers[BLOCK_COLUMNS], numbers[BLOCK_COLUMNS]):
        for row in range(first, last):
            place = base if groups == 1 else base + row // rows * group_base
            if limit == numbers[BLOCK_COLUMNS]:
                tile = splat_rows(bias[row], height, width)
            else:
                tile = load_rows(sums, row * floats, len(width) * lanes, height, width)
            slot, stop = peek(cursors, row), peek(pointers, row + 1)
            while slot < stop:
                index = peek(indices, slot)
                if index >= limit:
                    break
                value = peek(values, peek(permutation, slot)) if len(permuted) else peek(values, slot)
                tile = add_scaled_rows(
                    value, load_rows(packed, place + peek(table, index), stride, height, width), tile
                )
                slot += 1
            if limit < columns:
                cursors[row] = slot
                store_rows(sums, row * floats, len(width) * lanes, tile)
            else:
                put(numbers, target, row, where, tile_row, tile_column, tile, waiting, height, width, lanes)


@cache
def _multiply_task(real, integer, height, width, permuted):
    """Compile the task that writes the target image; its data: see `multiply`."""
    lanes = CHUNK_BYTES // np.dtype(real).itemsize

    @TASK
    def task(data):
        header = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        numbers = carray(pointer(header[0]), COUNT, np.int64)
        rows, active, parts = header[11], header[12], header[13]
        table = carray(pointer(header[1]), numbers[ROW_COLUMNS], np.int64)
        pointers = carray(pointer(header[2]), rows + 1, integer)
        indices = carray(pointer(header[3]), active, integer)
        permutation = carray(pointer(header[4]), active, integer)
        values = carray(pointer(header[5]), active, real)
        bias = carray(pointer(header[6]), rows, real)
        source = carray(pointer(header[7]), header[14], real)
        target = carray(pointer(header[8]), header[15], real)
        mine = claim(data, 0)
        packed = carray(pointer(header[9] + mine * header[16]), header[17], real)
        floats = len(height) * len(width) * lanes
        sums = carray(pointer(header[9] + mine * header[16] + header[18]), (rows + 1) * floats, real)
        cursors = carray(pointer(header[10] + mine * header[19]), rows, np.int64)
        block = next_block(data, mine)
        while block >= 0:
            where, part = of_portion(numbers, block // parts), block % parts
            first, last = first_row(pointers, part, parts), first_row(pointers, part + 1, parts)
            pack_source(numbers, source, packed, lanes, where)
            for tile_row in range(numbers[TILES_HEIGHT]):
                for tile_column in range(numbers[TILES_WIDTH]):
                    _multiply_tile(
                        numbers, table, pointers, indices, values, permutation, bias, packed, target, sums, cursors,
                        where, tile_row, tile_column, first, last, height, width, permuted, lanes,
                    )  # fmt: skip
            block = next_block(data, mine)

    return task.address


def multiply(
    plan: Plan,
    pointers: Tensor,
    indices: Tensor,
    permutation: Tensor | None,
    values: Tensor,
    bias: Tensor,
    source: Tensor,
    target: Tensor,
) -> None:
    """Write the target image: for each row of the topology the sum of its entries' shifted source images.

    `indices` lead into the plan's table, `permutation` to the values: None where they stand in the order of the slots.
    """
    item = source.element_size()
    floats = plan.height * plan.width * CHUNK_BYTES // item
    rows = pointers.numel() - 1
    packed_bytes = aligned(plan.source_floats * item)
    share = packed_bytes + aligned((rows + 1) * floats * item)
    cursor_bytes = aligned(rows * 8)
    team = torch.get_num_threads()
    work = scratch(team * (share + cursor_bytes))
    start = aligned(work.data_ptr())
    parts = parts_of(plan.num_portions, team)
    key = (NUMPY[source.dtype], NUMPY[pointers.dtype], (0,) * plan.height, (0,) * plan.width)
    task = _multiply_task(*key, () if permutation is None else (0,))
    tensors = (plan.numbers, plan.table, pointers, indices, indices if permutation is None else permutation, values)
    numbers = [
        *(tensor.data_ptr() for tensor in (*tensors, bias, source, target)), start, start + team * share, rows,
        indices.numel(), parts, source.numel(), target.numel(), share, plan.source_floats, packed_bytes, cursor_bytes,
    ]  # fmt: skip
    threads.run(task, numbers, num_blocks=plan.num_portions * parts)


def parts_of(portions: int, team: int) -> int:
    """Into how many parts the rows are cut: more than one only where there are fewer portions than threads."""
    return 1 if team == 1 or portions >= 2 * team else -(-2 * team // max(1, portions))


def scratch(num_bytes: int) -> Tensor:
    """Return memory in which an aligned stretch of so many bytes fits."""
    return torch.empty(num_bytes + CHUNK_BYTES, dtype=torch.uint8, device="cpu")


def aligned(number: int) -> int:
    """Return the next multiple of a cache line."""
    return -(-number // CHUNK_BYTES) * CHUNK_BYTES
