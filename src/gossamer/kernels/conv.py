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
from gossamer.kernels.conv_plan import NAMES, Plan
from gossamer.kernels.cpu import _NUMPY, _options, _task, first_row, next_block
from gossamer.kernels.simd import CHUNK_BYTES, claim, pointer
from gossamer.kernels.simd_rows import (
    add_scaled_rows,
    add_totals,
    load_between,
    load_piece,
    load_rows,
    multiply_rows,
    peek,
    splat_rows,
    store_first_rows,
    store_piece,
    store_rows,
    total,
)

njit = numba.njit

_PARTITIONS = 8
# Entries whose products wait to be summed.
_WAITING = 32

(
    _BATCH, _SIDE, _SOURCE_CHANNELS, _SOURCE_HEIGHT, _SOURCE_WIDTH, _PHASES_HEIGHT, _PHASES_WIDTH, _ORIGIN_HEIGHT,
    _ORIGIN_WIDTH, _PACKED_ROWS, _PACKED_STRIDE, _PERIOD, _CHANNEL_STRIDE, _TARGET_CHANNELS, _TARGET_HEIGHT,
    _TARGET_WIDTH, _STEP_HEIGHT, _STEP_WIDTH, _START_HEIGHT, _START_WIDTH, _TILES_HEIGHT, _TILES_WIDTH, _BANDS,
    _GROUPS, _BLOCK_COLUMNS, _ROW_COLUMNS, _POSITIONS_WIDTH, _BAND_ROWS,
) = range(len(NAMES))  # fmt: skip
_COUNT = len(NAMES)


@njit(**_options)
def _pack_row(source, begin, source_width, packed, place, stride, samples, sample_stride, period, step, origin, lanes):
    """Copy one row of some samples, side by side, zeros around each."""
    if samples == 1 and step == 1:
        for column in range(0, stride, lanes):
            there = column + origin
            store_piece(packed, place + column, load_between(source, begin + there, -there, source_width - there))
        return
    packed[place : place + stride] = 0
    # The first column of the scratch that the image reaches, and how many it fills.
    first = max(0, -(origin // step))
    count = min(period, (source_width - origin + step - 1) // step) - first
    for sample in range(samples):
        there, here = begin + sample * sample_stride + first * step + origin, place + sample * period + first
        for column in range(count):
            packed[here + column] = source[there + column * step]


@njit(**_options)
def _pack(
    source, height, width, channels, phases, origin, packed, rows, stride, period, lanes, start, samples, first_row
):
    """Copy some samples of an image, phase by phase: packed[channel, phase, row, column]."""
    plane = height * width
    place = 0
    for channel in range(channels):
        begin = (start * channels + channel) * plane
        for phase_height in range(phases[0]):
            for phase_width in range(phases[1]):
                for row in range(rows):
                    line = (first_row + row) * phases[0] + phase_height + origin[0]
                    if 0 <= line < height:
                        _pack_row(
                            source, begin + line * width, width, packed, place, stride, samples, channels * plane,
                            period, phases[1], origin[1] + phase_width, lanes,
                        )  # fmt: skip
                    else:
                        packed[place : place + stride] = 0
                    place += stride


@njit(**_options)
def _pack_source(numbers, source, packed, lanes, unit):
    start, samples, band = _of_unit(numbers, unit)
    _pack(
        source, numbers[_SOURCE_HEIGHT], numbers[_SOURCE_WIDTH], numbers[_SOURCE_CHANNELS],
        (numbers[_PHASES_HEIGHT], numbers[_PHASES_WIDTH]), (numbers[_ORIGIN_HEIGHT], numbers[_ORIGIN_WIDTH]), packed,
        numbers[_PACKED_ROWS], numbers[_PACKED_STRIDE], numbers[_PERIOD], lanes, start, samples,
        band * numbers[_BAND_ROWS],
    )  # fmt: skip


@njit(**_options)
def _of_unit(numbers, unit):
    """First sample, number of samples and band of a unit."""
    start = unit // numbers[_BANDS] * numbers[_SIDE]
    return start, min(numbers[_SIDE], numbers[_BATCH] - start), unit % numbers[_BANDS]


@njit(**_options)
def _put(numbers, target, row, unit, tile_row, tile_column, tile, waiting, height, width, lanes):
    """Write a tile of one row of the topology to the target image."""
    start, samples, band = _of_unit(numbers, unit)
    step_height, step_width = numbers[_STEP_HEIGHT], numbers[_STEP_WIDTH]
    channel, phase = row // (step_height * step_width), row % (step_height * step_width)
    image_height, image_width = numbers[_TARGET_HEIGHT], numbers[_TARGET_WIDTH]
    begin = (start * numbers[_TARGET_CHANNELS] + channel) * image_height * image_width
    top, left = band * numbers[_BAND_ROWS] + tile_row * len(height), tile_column * len(width) * lanes
    if samples == 1 and step_height == 1 and step_width == 1:
        place = begin + top * image_width + left
        store_first_rows(target, place, image_width, tile, image_height - top, image_width - left)
        return
    floats = len(width) * lanes
    store_rows(waiting, 0, floats, tile)
    sample_stride = numbers[_TARGET_CHANNELS] * image_height * image_width
    for row in range(len(height)):
        line = (top + row) * step_height + phase // step_width + numbers[_START_HEIGHT]
        if 0 <= line < image_height:
            for place in range(floats):
                sample, column = (left + place) // numbers[_PERIOD], (left + place) % numbers[_PERIOD]
                at = column * step_width + phase % step_width + numbers[_START_WIDTH]
                if sample < samples and column < numbers[_POSITIONS_WIDTH] and 0 <= at < image_width:
                    target[begin + sample * sample_stride + line * image_width + at] = waiting[row * floats + place]


@njit(**_options)
def _multiply_tile(
    numbers, table, pointers, indices, values, permutation, bias, packed, target, sums, cursors, unit, tile_row,
    tile_column, first, last, height, width, permuted, lanes,
):  # fmt: skip
    stride, groups = numbers[_PACKED_STRIDE], numbers[_GROUPS]
    floats = len(height) * len(width) * lanes
    base = tile_row * len(height) * stride + tile_column * len(width) * lanes
    rows = (pointers.size - 1) // groups
    group_base = numbers[_SOURCE_CHANNELS] // groups * numbers[_CHANNEL_STRIDE]
    waiting = sums[(pointers.size - 1) * floats :]
    for row in range(first, last):
        cursors[row] = pointers[row]
    columns = numbers[_ROW_COLUMNS]
    for limit in range(numbers[_BLOCK_COLUMNS], columns + numbers[_BLOCK_COLUMNS], numbers[_BLOCK_COLUMNS]):
        for row in range(first, last):
            place = base + row // rows * group_base
            if limit == numbers[_BLOCK_COLUMNS]:
                tile = splat_rows(bias[row], height, width)
            else:
                tile = load_rows(sums, row * floats, len(width) * lanes, height, width)
            slot, stop = peek(cursors, row), peek(pointers, row + 1)
            while slot < stop:
                index = peek(indices, slot)
                if index >= limit:
                    break
                value = peek(values, peek(permutation, slot)) if len(permuted) else peek(values, slot)
                tile = add_scaled_rows(value, load_rows(packed, place + peek(table, index), stride, height, width), tile)
                slot += 1
            if limit < columns:
                cursors[row] = slot
                store_rows(sums, row * floats, len(width) * lanes, tile)
            else:
                _put(numbers, target, row, unit, tile_row, tile_column, tile, waiting, height, width, lanes)


@cache
def _multiply_task(real, integer, height, width, permuted):
    """Compile the task that writes the target image; its data: see `multiply`."""
    lanes = CHUNK_BYTES // np.dtype(real).itemsize

    @_task
    def task(data):
        header = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        numbers = carray(pointer(header[0]), _COUNT, np.int64)
        rows, active, parts = header[11], header[12], header[13]
        table = carray(pointer(header[1]), numbers[_ROW_COLUMNS], np.int64)
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
            unit, part = block // parts, block % parts
            first, last = first_row(pointers, part, parts), first_row(pointers, part + 1, parts)
            _pack_source(numbers, source, packed, lanes, unit)
            for tile_row in range(numbers[_TILES_HEIGHT]):
                for tile_column in range(numbers[_TILES_WIDTH]):
                    _multiply_tile(
                        numbers, table, pointers, indices, values, permutation, bias, packed, target, sums, cursors,
                        unit, tile_row, tile_column, first, last, height, width, permuted, lanes,
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
    packed_bytes = _aligned(plan.source_floats * item)
    share = packed_bytes + _aligned((rows + 1) * floats * item)
    cursor_bytes = _aligned(rows * 8)
    team = torch.get_num_threads()
    work = _scratch(team * (share + cursor_bytes))
    start = _aligned(work.data_ptr())
    parts = _parts(plan.num_units, team)
    key = (_NUMPY[source.dtype], _NUMPY[pointers.dtype], (0,) * plan.height, (0,) * plan.width)
    task = _multiply_task(*key, () if permutation is None else (0,))
    tensors = (plan.numbers, plan.table, pointers, indices, indices if permutation is None else permutation, values)
    numbers = [
        *(tensor.data_ptr() for tensor in (*tensors, bias, source, target)), start, start + team * share, rows,
        indices.numel(), parts, source.numel(), target.numel(), share, plan.source_floats, packed_bytes, cursor_bytes,
    ]  # fmt: skip
    threads.run(task, numbers, num_blocks=plan.num_units * parts)


@njit(**_options)
def _pack_twin(numbers, image, twin, rows, stride, lanes, unit):
    """Copy the image that the target is the gradient of, in the tiles of the target."""
    start, samples, band = _of_unit(numbers, unit)
    _pack(
        image, numbers[_TARGET_HEIGHT], numbers[_TARGET_WIDTH], numbers[_TARGET_CHANNELS],
        (numbers[_STEP_HEIGHT], numbers[_STEP_WIDTH]), (numbers[_START_HEIGHT], numbers[_START_WIDTH]), twin,
        rows, stride, numbers[_PERIOD], lanes, start, samples, band * numbers[_BAND_ROWS],
    )  # fmt: skip


@njit(**_options)
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


@njit(**_options)
def _backward_tile(
    numbers, table, pointers, indices, values, packed, twin, target, grad_slots, sums, cursors, unit, tile_row,
    tile_column, first, last, keep, height, width, wanted, lanes,
):  # fmt: skip
    stride, groups = numbers[_PACKED_STRIDE], numbers[_GROUPS]
    wide = len(width) * lanes
    floats = len(height) * wide
    base = tile_row * len(height) * stride + tile_column * wide
    rows = (pointers.size - 1) // groups
    group_base = numbers[_SOURCE_CHANNELS] // groups * numbers[_CHANNEL_STRIDE]
    waiting = sums[(pointers.size - 1) * floats :]
    twin_stride = numbers[_TILES_WIDTH] * wide
    twin_base = tile_row * len(height) * twin_stride + tile_column * wide
    for row in range(first, last):
        cursors[row] = pointers[row]
    columns = numbers[_ROW_COLUMNS]
    for limit in range(numbers[_BLOCK_COLUMNS], columns + numbers[_BLOCK_COLUMNS], numbers[_BLOCK_COLUMNS]):
        for row in range(first, last):
            place = base + row // rows * group_base
            if limit == numbers[_BLOCK_COLUMNS] or not len(wanted):
                tile = splat_rows(values.dtype.type(0), height, width)
            else:
                tile = load_rows(sums, row * floats, wide, height, width)
            x = load_rows(twin, row * numbers[_BAND_ROWS] * twin_stride + twin_base, twin_stride, height, width)
            slot, stop = peek(cursors, row), peek(pointers, row + 1)
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
            if limit < columns:
                cursors[row] = slot
                if len(wanted):
                    store_rows(sums, row * floats, wide, tile)
            elif len(wanted):
                _put(numbers, target, row, unit, tile_row, tile_column, tile, waiting, height, width, lanes)


@cache
def _backward_task(real, integer, height, width, wanted):
    """Compile the task that writes the gradients; its data: see `backward`."""
    lanes = CHUNK_BYTES // np.dtype(real).itemsize

    @_task
    def task(data):
        blocks = carray(data, threads.NUMBERS)[1]
        header = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        numbers = carray(pointer(header[0]), _COUNT, np.int64)
        sizes = carray(pointer(header[9]), 12, np.int64)
        rows, active, units, parts = sizes[0], sizes[1], sizes[2], sizes[3]
        table = carray(pointer(header[1]), numbers[_ROW_COLUMNS], np.int64)
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
            for unit in range(units * partition // partitions, units * (partition + 1) // partitions):
                _pack_source(numbers, source, packed, lanes, unit)
                _pack_twin(
                    numbers, image, twin, numbers[_BAND_ROWS], numbers[_TILES_WIDTH] * len(width) * lanes, lanes, unit
                )
                for tile_row in range(numbers[_TILES_HEIGHT]):
                    for tile_column in range(numbers[_TILES_WIDTH]):
                        _backward_tile(
                            numbers, table, pointers, indices, values, packed, twin, target, grad_slots, sums,
                            cursors, unit, tile_row, tile_column, first, last, keep, height, width, wanted, lanes,
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
    item, real = grad.element_size(), _NUMPY[grad.dtype]
    rows, active, team = pointers.numel() - 1, indices.numel(), torch.get_num_threads()
    floats = plan.height * plan.width * CHUNK_BYTES // item
    at_twin = _aligned(plan.source_floats * item)
    at_sums = at_twin + _aligned(plan.target_floats * item)
    at_cursors = at_sums + _aligned(rows * floats * item + max(floats * item, _WAITING * CHUNK_BYTES))
    share = at_cursors + _aligned(8 * rows)
    partitions = min(_PARTITIONS, plan.num_units)
    parts = _parts(partitions, team)
    work = _scratch(team * share)
    slots = torch.empty(partitions, active, dtype=grad.dtype)
    ordered = torch.empty_like(values)
    _gather(values.detach().numpy(), permutation.numpy(), ordered.numpy())
    sizes = torch.tensor(
        [rows, active, plan.num_units, parts, grad.numel(), image.numel(), share, plan.source_floats, at_twin,
         plan.target_floats, at_sums, at_cursors]
    )  # fmt: skip
    key = (real, _NUMPY[pointers.dtype], (0,) * plan.height, (0,) * plan.width, () if grad_image is None else (0,))
    target = image if grad_image is None else grad_image
    tensors = (plan.numbers, plan.table, pointers, indices, ordered, grad, image, target, slots, sizes)
    numbers = [*(tensor.data_ptr() for tensor in tensors), _aligned(work.data_ptr())]
    threads.run(_backward_task(*key), numbers, num_blocks=partitions * parts)
    _scatter(slots.numpy(), permutation.numpy(), grad_values.numpy())


@njit(**_options)
def _gather(values, permutation, ordered):
    for slot in range(permutation.size):
        ordered[slot] = values[permutation[slot]]


@njit(**_options)
def _scatter(slots, permutation, grad_values):
    for slot in range(permutation.size):
        result = slots[0, slot]
        for partition in range(1, slots.shape[0]):
            result += slots[partition, slot]
        grad_values[permutation[slot]] = result


def _parts(units: int, team: int) -> int:
    """Into how many parts the rows are cut: more than one only where there are fewer units than threads."""
    return 1 if team == 1 or units >= 2 * team else -(-2 * team // max(1, units))


def _scratch(num_bytes: int) -> Tensor:
    return torch.empty(num_bytes + CHUNK_BYTES, dtype=torch.uint8)


def _aligned(number: int) -> int:
    return -(-number // CHUNK_BYTES) * CHUNK_BYTES
