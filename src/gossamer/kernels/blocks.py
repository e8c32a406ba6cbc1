"""How the work of a kernel is cut into blocks and claimed: rows of about equal work, one owner for each result."""

import numpy as np
import torch
from numba import carray, cfunc, njit, types

from gossamer.kernels import notice, threads
from gossamer.kernels.simd import claim

# Here, because every module of kernels imports this one.
notice.listen()

OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy"}
TASK = cfunc(types.void(types.CPointer(types.int64)), cache=True)
NUMPY = {torch.float32: np.float32, torch.float64: np.float64, torch.int32: np.int32, torch.int64: np.int64}

# Work of a row beside its entries, in entries: loading and storing the tile of its result.
_ROW_COST = 4


@njit(**OPTIONS)
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


@njit(**OPTIONS)
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


@njit(**OPTIONS)
def group_tiles(num_tiles, group, groups):
    """Return the first tile of the batch in a group, and the one after its last."""
    return num_tiles * group // groups, num_tiles * (group + 1) // groups


@njit(**OPTIONS)
def next_rows(data, mine, pointers):
    """Claim a block of rows: the first and the one after the last, or -1, -1."""
    block, blocks = next_block(data, mine), carray(data, threads.NUMBERS)[1]
    if block < 0:
        return -1, -1
    return first_row(pointers, block, blocks), first_row(pointers, block + 1, blocks)
