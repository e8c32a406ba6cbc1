"""Both gradients of a sparse convolution in Numba, sharing each load of the output's gradient.

Shapes and walk as in `conv`: the source is the gradient of the output, the target that of the input, and the *twin* is
the input itself, in the tiles of the target. Each entry adds its value times a shifted tile of the source to the tile
of the target, and the product of that tile with the twin's to its own gradient.
"""

import ctypes
from functools import cache

import numba
import numpy as np
import torch
from numba import carray
from torch import Tensor

from gossamer.kernels import threads
from gossamer.kernels.blocks import NUMPY, OPTIONS, TASK, first_row, next_block
from gossamer.kernels.conv import aligned, parts_of, scratch
from gossamer.kernels.conv_images import (
    BAND_ROWS,
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
    pack_twin,
    put,
)
from gossamer.kernels.conv_plan import Plan
from gossamer.kernels.simd import CHUNK_BYTES, claim, pointer
from gossamer.kernels.simd_rows import (
    add_scaled_rows,
    add_totals,
    load_piece,
    load_rows,
    multiply_rows,
    peek,
    splat_rows,
    store_piece,
    store_rows,
    total,
)

# Parts of the batch whose sums are kept apart, whatever the number of threads, so that the bits do not depend on it.
_PARTITIONS = 8
# Entries whose products wait to be summed.
_WAITING = 32


@numba.njit(**OPTIONS)
def _add_products(waiting, grad_slots, begin, stop, keep, lanes):
    """Sum the lanes of the products that wait, one for each slot."""
    place = 0
    for slot in range(begin, stop - 3, 4):
        add_totals(
            grad_slots, slot, load_piece(waiting, place), load_piece(waiting, place + lanes),
            load_piece(waiting, place + 2 * lanes), load_piece(waiting, place + 3 * lanes), keep,
        )  # fmt: skip
        place += 4 * lanes
    for slot in range(stop - (stop - begin) % 4, stop):
        product = total(load_piece(waiting, place))
        grad_slots[slot] = grad_slots[slot] + product if keep else product
        place += lanes


@numba.njit(inline="always", **OPTIONS)
def _add_entries(
    table, indices, values, packed, grad_slots, waiting, place, stride, x, tile, slot, stop, limit, keep, height,
    width, wanted, lanes,
):  # fmt: skip
    """Walk the entries of a row within a block of channels; return its tile and the slot after the last."""
    while slot < stop and peek(indices, slot) < limit:
        # The products of some entries wait as vectors: summed four at a time they cost half the instructions.
        begin, enough = slot, min(stop, slot + _WAITING)
        while slot < enough:
            index = peek(indices, slot)
            if index >= limit:
                break
            g = load_rows(packed, place + peek(table, index), stride, height, width)
            store_piece(waiting, (slot - begin) * lanes, multiply_rows(x, g))
            if len(wanted):
                tile = add_scaled_rows(peek(values, slot), g, tile)
            slot += 1
        _add_products(waiting, grad_slots, begin, slot, keep, lanes)
    return tile, slot


@numba.njit(**OPTIONS)
def _backward_tile(
    numbers, table, pointers, indices, values, packed, twin, target, grad_slots, sums, cursors, where, tile_row,
    tile_column, first, last, keep, height, width, wanted, lanes,
):  # fmt: skip
    stride, groups = numbers[PACKED_STRIDE], numbers[GROUPS]
    wide = len(width) * lanes
    floats = len(height) * wide
    base = tile_row * len(height) * stride + tile_column * wide
    rows = (pointers.size - 1) // groups
    group_base = numbers[SOURCE_CHANNELS] // groups * numbers[CHANNEL_STRIDE]
    waiting = sums[(pointers.size - 1) * floats :]
    twin_stride = numbers[TILES_WIDTH] * wide
    twin_base = tile_row * len(height) * twin_stride + tile_column * wide
    for row in range(first, last):
        cursors[row] = pointers[row]
    columns = numbers[ROW_COLUMNS]
    for limit in range(numbers[BLOCK_COLUMNS], columns + numbers[BLOCK_COLUMNS], numbers[BLOCK_COLUMNS]):
        for row in range(first, last):
            place = base if groups == 1 else base + row // rows * group_base
            if limit == numbers[BLOCK_COLUMNS] or not len(wanted):
                tile = splat_rows(values.dtype.type(0), height, width)
            else:
                tile = load_rows(sums, row * floats, wide, height, width)
            x = load_rows(twin, row * numbers[BAND_ROWS] * twin_stride + twin_base, twin_stride, height, width)
            slot, stop = peek(cursors, row), peek(pointers, row + 1)
            tile, slot = _add_entries(
                table, indices, values, packed, grad_slots, waiting, place, stride, x, tile, slot, stop, limit, keep,
                height, width, wanted, lanes,
            )  # fmt: skip
            if limit < columns:
                cursors[row] = slot
                if len(wanted):
                    store_rows(sums, row * floats, wide, tile)
            elif len(wanted):
                put(numbers, target, row, where, tile_row, tile_column, tile, waiting, height, width, lanes)


@cache
def _backward_task(real, integer, height, width, wanted):
    """Compile the task that writes the gradients; its data: see `backward`."""
    lanes = CHUNK_BYTES // np.dtype(real).itemsize

    @TASK
    def task(data):
        blocks = carray(data, threads.NUMBERS)[1]
        header = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        numbers = carray(pointer(header[0]), COUNT, np.int64)
        sizes = carray(pointer(header[9]), 12, np.int64)
        rows, active, portions, parts = sizes[0], sizes[1], sizes[2], sizes[3]
        table = carray(pointer(header[1]), numbers[ROW_COLUMNS], np.int64)
        pointers = carray(pointer(header[2]), rows + 1, integer)
        indices = carray(pointer(header[3]), active, integer)
        values = carray(pointer(header[4]), active, real)
        source = carray(pointer(header[5]), sizes[4], real)
        image = carray(pointer(header[6]), sizes[5], real)
        target = carray(pointer(header[7]), sizes[5], real)
        mine = claim(data, 0)
        work = header[10] + mine * sizes[6]
        packed = carray(pointer(work), sizes[7], real)
        twin = carray(pointer(work + sizes[8]), sizes[9], real)
        floats = len(height) * len(width) * lanes
        sums = carray(pointer(work + sizes[10]), rows * floats + max(floats, _WAITING * lanes), real)
        cursors = carray(pointer(work + sizes[11]), rows, np.int64)
        partitions = blocks // parts
        block = next_block(data, mine)
        while block >= 0:
            partition, part = block // parts, block % parts
            first, last = first_row(pointers, part, parts), first_row(pointers, part + 1, parts)
            grad_slots = carray(pointer(header[8] + partition * active * sums.itemsize), active, real)
            keep = False
            for portion in range(portions * partition // partitions, portions * (partition + 1) // partitions):
                where = of_portion(numbers, portion)
                pack_source(numbers, source, packed, lanes, where)
                pack_twin(
                    numbers, image, twin, numbers[BAND_ROWS], numbers[TILES_WIDTH] * len(width) * lanes, lanes, where
                )
                for tile_row in range(numbers[TILES_HEIGHT]):
                    for tile_column in range(numbers[TILES_WIDTH]):
                        _backward_tile(
                            numbers, table, pointers, indices, values, packed, twin, target, grad_slots, sums,
                            cursors, where, tile_row, tile_column, first, last, keep, height, width, wanted, lanes,
                        )  # fmt: skip
                        keep = True
            block = next_block(data, mine)

    return task.address


def backward(
    plan: Plan,
    pointers: Tensor,
    indices: Tensor,
    permutation: Tensor,
    values: Tensor,
    grad: Tensor,
    image: Tensor,
    grad_image: Tensor | None,
    grad_values: Tensor,
) -> None:
    """Write the gradient of the weights, and that of the image unless it is None, sharing each load of `grad`."""
    item, real = grad.element_size(), NUMPY[grad.dtype]
    rows, active, team = pointers.numel() - 1, indices.numel(), torch.get_num_threads()
    floats = plan.height * plan.width * CHUNK_BYTES // item
    at_twin = aligned(plan.source_floats * item)
    at_sums = at_twin + aligned(plan.target_floats * item)
    at_cursors = at_sums + aligned(rows * floats * item + max(floats * item, _WAITING * CHUNK_BYTES))
    share = at_cursors + aligned(8 * rows)
    partitions = min(_PARTITIONS, plan.num_portions)
    parts = parts_of(partitions, team)
    work = scratch(team * share)
    slots = grad.new_empty(partitions, active)
    ordered = torch.empty_like(values)
    _gather(values.detach().numpy(), permutation.numpy(), ordered.numpy())
    sizes = (ctypes.c_int64 * 12)(
        rows, active, plan.num_portions, parts, grad.numel(), image.numel(), share, plan.source_floats, at_twin,
        plan.target_floats, at_sums, at_cursors,
    )  # fmt: skip
    key = (real, NUMPY[pointers.dtype], (0,) * plan.height, (0,) * plan.width, () if grad_image is None else (0,))
    target = image if grad_image is None else grad_image
    tensors = (plan.numbers, plan.table, pointers, indices, ordered, grad, image, target, slots)
    numbers = [*(tensor.data_ptr() for tensor in tensors), ctypes.addressof(sizes), aligned(work.data_ptr())]
    threads.run(_backward_task(*key), numbers, num_blocks=partitions * parts)
    _scatter(slots.numpy(), permutation.numpy(), grad_values.numpy())


@numba.njit(**OPTIONS)
def _gather(values, permutation, ordered):
    for slot in range(permutation.size):
        ordered[slot] = values[permutation[slot]]


@numba.njit(**OPTIONS)
def _scatter(slots, permutation, grad_values):
    for slot in range(permutation.size):
        result = slots[0, slot]
        for partition in range(1, slots.shape[0]):
            result += slots[partition, slot]
        grad_values[permutation[slot]] = result
