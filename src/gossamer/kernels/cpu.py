"""Products of a sparse weight with a feature-major batch, in Numba, touching only the weights that exist.

Shapes: F = features in, O = features out, B = batch, K = active weights. `x_FB` and `g_OB` are contiguous, batch last.
Each function walks the rows of a CSR matrix; for a tile of the batch that fits the registers it keeps the running sum
there while it walks, so a result is written once. Rows are shared out by work, and one thread owns a result: the same
bits come out whatever the number of threads.
"""

import numba
import numpy as np
from numba import njit, prange

from gossamer.kernels.simd import (
    CHUNK_BYTES,
    dot,
    load,
    load_first,
    multiply_add,
    splat,
    store,
    store_first,
)

# A layer's threads and torch's must not fight: the OpenMP layer shares torch's library, and so its pool.
numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]

_options = {"nogil": True, "cache": True, "error_model": "numpy"}

MOST_THREADS = numba.config.NUMBA_NUM_THREADS

# Work of a row beside its entries, in entries: loading and storing the tile of its result.
_ROW_COST = 4


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


@njit(parallel=True, **_options)
def multiply_add_bias(pointers, indices, values, bias, x_FB, y_OB, width, lanes, num_blocks):
    """Write W x + b to y, one walk of the rows."""
    for block in prange(num_blocks):
        start, stop = first_row(pointers, block, num_blocks), first_row(pointers, block + 1, num_blocks)
        _multiply_rows(pointers, indices, values, bias, x_FB, y_OB, width, lanes, start, stop)


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


@njit(parallel=True, **_options)
def sample(pointers, indices, g_OB, x_FB, grad_values, width, lanes, num_blocks):
    """Write to grad_values[k] the product of row g[row of k] with x[column of k]: the gradient of the weights alone."""
    for block in prange(num_blocks):
        start, stop = first_row(pointers, block, num_blocks), first_row(pointers, block + 1, num_blocks)
        _sample_rows(pointers, indices, g_OB, x_FB, grad_values, width, lanes, start, stop)


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


@njit(parallel=True, **_options)
def backward(pointers, indices, permutation, values, x_FB, g_OB, grad_x_FB, grad_values, width, lanes, num_blocks):
    """Write W^T g to grad_x and the gradient of the weights to grad_values, sharing each load of g.

    Walks the transpose: `pointers` and `indices` are by columns of the weight, `permutation` leads to the values.
    """
    for block in prange(num_blocks):
        start, stop = first_row(pointers, block, num_blocks), first_row(pointers, block + 1, num_blocks)
        _backward_columns(
            pointers, indices, permutation, values, x_FB, g_OB, grad_x_FB, grad_values, width, lanes, start, stop
        )
