"""Products of a sparse weight with a feature-major batch, in Numba, touching only the weights that exist.

Shapes: F = features in, O = features out, B = batch, K = active weights. `x_FB` and `g_OB` are contiguous, batch last.
Each function walks the rows of a CSR matrix; for a tile of the batch that fits the registers it keeps the running sum
there while it walks, so a result is written once. Rows are cut into blocks of equal work, and one thread owns a result:
the same bits come out whatever the number of threads.
"""

from collections.abc import Callable
from functools import cache

import numba
import numpy as np
import torch
from numba import carray, cfunc, njit, types
from torch import Tensor

from gossamer.kernels import threads
from gossamer.kernels.simd import (
    CHUNK_BYTES,
    claim,
    dot,
    load,
    load_first,
    multiply_add,
    pointer,
    splat,
    store,
    store_first,
)

_options = {"nogil": True, "cache": True, "error_model": "numpy"}
_task = cfunc(types.void(types.CPointer(types.int64)), cache=True)

# Work of a row beside its entries, in entries: loading and storing the tile of its result.
_ROW_COST = 4
# Blocks for each thread: more than one, so that a thread that is held up is not waited for.
_BLOCKS = 4


def tile_width(batch: int, itemsize: int) -> tuple[int, ...]:
    """Return the width of the narrowest tile that covers the batch, or the widest that this processor's registers hold.

    Args:
        batch: number of samples.
        itemsize: bytes of one value, 4 or 8.
    """
    chunks = 1
    while chunks < _WIDEST and chunks * CHUNK_BYTES < batch * itemsize:
        chunks *= 2
    return (0,) * chunks


def _widest() -> int:
    """512-bit registers hold a tile of 8 chunks twice over; AVX2 and NEON one of 4."""
    features = numba.config.CPU_FEATURES
    if features is None:
        from llvmlite import binding

        known = numba.config.CPU_NAME is None
        features = binding.get_host_cpu_features().flatten() if known else ""
    return 8 if "+avx512f" in features else 4


_WIDEST = _widest()


@njit(**_options)
def first_row(pointers, block, num_blocks):
    """Return the row at which a block starts when all blocks have about the same work."""
    rows = pointers.size - 1
    if block == num_blocks:
        return rows
    target = (np.int64(pointers[rows]) + _ROW_COST * rows) * block // num_blocks
    low, high = 0, rows
    while low < high:
        middle = (low + high) // 2
        if np.int64(pointers[middle]) + _ROW_COST * middle < target:
            low = middle + 1
        else:
            high = middle
    return low


@njit(**_options)
def _multiply_rows(pointers, indices, values, bias, x_FB, y_OB, width, lanes, start, stop):
    batch = x_FB.shape[1]
    for column in range(0, batch, lanes):
        count = batch - column
        if count >= lanes:
            for row in range(start, stop):
                total = splat(bias[row], width)
                for slot in range(pointers[row], pointers[row + 1]):
                    total = multiply_add(splat(values[slot], width), load(x_FB, indices[slot], column, width), total)
                store(y_OB, row, column, total)
        else:
            for row in range(start, stop):
                total = splat(bias[row], width)
                for slot in range(pointers[row], pointers[row + 1]):
                    part = load_first(x_FB, indices[slot], column, width, count)
                    total = multiply_add(splat(values[slot], width), part, total)
                store_first(y_OB, row, column, total, count)


@njit(**_options)
def next_block(data, mine):
    """Claim a block of thread `mine`'s share, or of another's when that is taken; return -1 when none is left."""
    header = carray(data, threads.NUMBERS)
    blocks, team = header[1], header[2]
    for step in range(team):
        owner = (mine + step) % team
        block = blocks * owner // team + claim(data, threads.COUNTERS + threads.STRIDE * owner)
        if block < blocks * (owner + 1) // team:
            return block
    return -1


@njit(**_options)
def next_rows(data, mine, pointers):
    """Claim a block of rows: the first and the one after the last, or -1, -1."""
    block, blocks = next_block(data, mine), carray(data, threads.NUMBERS)[1]
    if block < 0:
        return -1, -1
    return first_row(pointers, block, blocks), first_row(pointers, block + 1, blocks)


@cache
def _multiply_task(real, integer, width):
    """Compile the task that writes W x + b; its data: see `multiply`."""
    lanes = len(width) * CHUNK_BYTES // np.dtype(real).itemsize

    @_task
    def task(data):
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        rows, active, features, batch = numbers[6], numbers[7], numbers[8], numbers[9]
        pointers = carray(pointer(numbers[0]), rows + 1, integer)
        indices = carray(pointer(numbers[1]), active, integer)
        values = carray(pointer(numbers[2]), active, real)
        bias = carray(pointer(numbers[3]), rows, real)
        x_FB = carray(pointer(numbers[4]), (features, batch), real)
        y_OB = carray(pointer(numbers[5]), (rows, batch), real)
        mine = claim(data, 0)
        start, stop = next_rows(data, mine, pointers)
        while start >= 0:
            _multiply_rows(pointers, indices, values, bias, x_FB, y_OB, width, lanes, start, stop)
            start, stop = next_rows(data, mine, pointers)

    return task.address


@njit(**_options)
def _sample_rows(pointers, indices, g_OB, x_FB, grad_values, width, lanes, start, stop):
    batch = x_FB.shape[1]
    for column in range(0, batch, lanes):
        count = batch - column
        for row in range(start, stop):
            g = load(g_OB, row, column, width) if count >= lanes else load_first(g_OB, row, column, width, count)
            for slot in range(pointers[row], pointers[row + 1]):
                if count >= lanes:
                    x = load(x_FB, indices[slot], column, width)
                else:
                    x = load_first(x_FB, indices[slot], column, width, count)
                # Stored, not added, in the first tile: reading what is to be overwritten costs a third of the time.
                grad_values[slot] = dot(g, x) if column == 0 else grad_values[slot] + dot(g, x)


@cache
def _sample_task(real, integer, width):
    """Compile the task that writes the gradient of the weights; its data: see `sample`."""
    lanes = len(width) * CHUNK_BYTES // np.dtype(real).itemsize

    @_task
    def task(data):
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        rows, active, features, batch = numbers[5], numbers[6], numbers[7], numbers[8]
        pointers = carray(pointer(numbers[0]), rows + 1, integer)
        indices = carray(pointer(numbers[1]), active, integer)
        g_OB = carray(pointer(numbers[2]), (rows, batch), real)
        x_FB = carray(pointer(numbers[3]), (features, batch), real)
        grad_values = carray(pointer(numbers[4]), active, real)
        mine = claim(data, 0)
        start, stop = next_rows(data, mine, pointers)
        while start >= 0:
            _sample_rows(pointers, indices, g_OB, x_FB, grad_values, width, lanes, start, stop)
            start, stop = next_rows(data, mine, pointers)

    return task.address


@njit(**_options)
def _backward_columns(
    pointers, indices, permutation, values, x_FB, g_OB, grad_x_FB, grad_values, width, lanes, start, stop
):
    batch = x_FB.shape[1]
    zero = values.dtype.type(0)
    for column in range(0, batch, lanes):
        count = batch - column
        if count >= lanes:
            for feature in range(start, stop):
                total = splat(zero, width)
                x = load(x_FB, feature, column, width)
                for slot in range(pointers[feature], pointers[feature + 1]):
                    g = load(g_OB, indices[slot], column, width)
                    place = permutation[slot]
                    total = multiply_add(splat(values[place], width), g, total)
                    grad_values[place] = dot(x, g) if column == 0 else grad_values[place] + dot(x, g)
                store(grad_x_FB, feature, column, total)
        else:
            for feature in range(start, stop):
                total = splat(zero, width)
                x = load_first(x_FB, feature, column, width, count)
                for slot in range(pointers[feature], pointers[feature + 1]):
                    g = load_first(g_OB, indices[slot], column, width, count)
                    place = permutation[slot]
                    total = multiply_add(splat(values[place], width), g, total)
                    grad_values[place] = dot(x, g) if column == 0 else grad_values[place] + dot(x, g)
                store_first(grad_x_FB, feature, column, total, count)


@cache
def _backward_task(real, integer, width):
    """Compile the task that writes both gradients; its data: see `backward`."""
    lanes = len(width) * CHUNK_BYTES // np.dtype(real).itemsize

    @_task
    def task(data):
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        columns, active, outputs, batch = numbers[8], numbers[9], numbers[10], numbers[11]
        pointers = carray(pointer(numbers[0]), columns + 1, integer)
        indices = carray(pointer(numbers[1]), active, integer)
        permutation = carray(pointer(numbers[2]), active, integer)
        values = carray(pointer(numbers[3]), active, real)
        x_FB = carray(pointer(numbers[4]), (columns, batch), real)
        g_OB = carray(pointer(numbers[5]), (outputs, batch), real)
        grad_x_FB = carray(pointer(numbers[6]), (columns, batch), real)
        grad_values = carray(pointer(numbers[7]), active, real)
        mine = claim(data, 0)
        start, stop = next_rows(data, mine, pointers)
        while start >= 0:
            _backward_columns(
                pointers, indices, permutation, values, x_FB, g_OB, grad_x_FB, grad_values, width, lanes, start, stop
            )
            start, stop = next_rows(data, mine, pointers)

    return task.address


@njit(**_options)
def _transpose_columns(x_BF, x_FB, start, stop):
    # The batch innermost: writes run along memory, and the lines read stay in the first cache for a whole block.
    for feature in range(start, stop):
        for sample in range(x_BF.shape[0]):
            x_FB[feature, sample] = x_BF[sample, feature]


@cache
def _transpose_task(real):
    """Compile the task that writes a batch-major matrix feature by feature; its data: see `transpose`."""
    lanes = CHUNK_BYTES // np.dtype(real).itemsize

    @_task
    def task(data):
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        batch, features = numbers[2], numbers[3]
        x_BF = carray(pointer(numbers[0]), (batch, features), real)
        x_FB = carray(pointer(numbers[1]), (features, batch), real)
        mine = claim(data, 0)
        block = next_block(data, mine)
        while block >= 0:
            _transpose_columns(x_BF, x_FB, block * lanes, min((block + 1) * lanes, features))
            block = next_block(data, mine)

    return task.address


# What the operators call: contiguous tensors on the CPU, values float32 or float64, indices all int32 or all int64.


def multiply(pointers: Tensor, indices: Tensor, values: Tensor, bias: Tensor, x_FB: Tensor, y_OB: Tensor) -> None:
    """Write W x + b to y, one walk of the rows."""
    sizes = (pointers.numel() - 1, indices.numel(), *x_FB.shape)
    _launch(_multiply_task, (pointers, indices, values, bias, x_FB, y_OB), sizes, x_FB)


def sample(pointers: Tensor, indices: Tensor, g_OB: Tensor, x_FB: Tensor, grad_values: Tensor) -> None:
    """Write to grad_values[k] the product of row g[row of k] with x[column of k]: the gradient of the weights alone."""
    sizes = (pointers.numel() - 1, indices.numel(), *x_FB.shape)
    _launch(_sample_task, (pointers, indices, g_OB, x_FB, grad_values), sizes, x_FB)


def backward(
    pointers: Tensor,
    indices: Tensor,
    permutation: Tensor,
    values: Tensor,
    x_FB: Tensor,
    g_OB: Tensor,
    grad_x_FB: Tensor,
    grad_values: Tensor,
) -> None:
    """Write W^T g to grad_x and the gradient of the weights to grad_values, sharing each load of g.

    Walks the transpose: `pointers` and `indices` are by columns of the weight, `permutation` leads to the values.
    """
    tensors = (pointers, indices, permutation, values, x_FB, g_OB, grad_x_FB, grad_values)
    sizes = (pointers.numel() - 1, indices.numel(), g_OB.shape[0], x_FB.shape[1])
    _launch(_backward_task, tensors, sizes, x_FB)


def transpose(x_BF: Tensor) -> Tensor:
    """Return a contiguous batch-major matrix as a feature-major one, twice as fast as torch's copy."""
    batch, features = x_BF.shape
    x_FB = x_BF.new_empty(features, batch)
    num_blocks = -(-features * x_BF.element_size() // CHUNK_BYTES)
    threads.run(
        _transpose_task(_NUMPY[x_BF.dtype]), [x_BF.data_ptr(), x_FB.data_ptr(), batch, features], num_blocks=num_blocks
    )
    return x_FB


_NUMPY = {torch.float32: np.float32, torch.float64: np.float64, torch.int32: np.int32, torch.int64: np.int64}


def _launch(make: Callable[..., int], tensors: tuple[Tensor, ...], sizes: tuple[int, ...], x: Tensor) -> None:
    task = make(_NUMPY[x.dtype], _NUMPY[tensors[0].dtype], tile_width(x.shape[1], x.element_size()))
    numbers = [*(tensor.data_ptr() for tensor in tensors), *sizes]
    threads.run(task, numbers, num_blocks=_BLOCKS * torch.get_num_threads())
