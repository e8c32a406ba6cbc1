"""Memory for what lies between the layers of a run, and for tiles of a gradient, used again step after step.

The allocator may give large blocks back to the system when they are free, and the system fills each page with zeros
when it is next touched: up to two fifths of a training step. What never leaves a run can stay instead, on
pages so large that few of them are looked up.
"""

import mmap
import sys
import threading

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Bytes = NDArray[np.uint8]

# Smaller ones the allocator keeps itself; larger ones would be missed elsewhere.
_LEAST_BYTES, _MOST_BYTES = 1 << 19, 1 << 25
# All that a thread keeps, in whole pages.
_TOTAL_BYTES = 1 << 27
_LARGE_PAGE = 1 << 21
_ALIGNMENT = 64
DTYPES = {torch.float32: np.float32, torch.float64: np.float64}


class _Kept(threading.local):
    """The buffers of one thread: what is free is decided there alone, so no two tensors get the same."""

    def __init__(self) -> None:
        self.buffers: list[Bytes] = []


_kept = _Kept()


def results(features: int, batch: int, dtype: torch.dtype) -> Tensor:
    """Return a matrix on the CPU with whatever is in it, shape [batch, features], strides (1, batch).

    Args:
        features: columns.
        batch: rows.
        dtype: float32 or float64.
    """
    kind = DTYPES[dtype]
    num_bytes = features * batch * np.dtype(kind).itemsize
    if _LEAST_BYTES <= num_bytes <= _MOST_BYTES and (buffer := _free(num_bytes)) is not None:
        start = -buffer.ctypes.data % _ALIGNMENT
        # Whoever holds the tensor holds the buffer with it.
        return torch.from_numpy(buffer[start : start + num_bytes].view(kind).reshape(features, batch).T)
    return torch.empty_strided((batch, features), (1, batch), dtype=dtype, device="cpu")


def _free(num_bytes: int) -> Bytes | None:
    """Return a buffer that no tensor holds, or a new one; None: there are enough."""
    fits = range(num_bytes + _ALIGNMENT, 2 * num_bytes + 1)
    holders = _holders(_kept.buffers)
    for place, count in enumerate(holders):
        if count == _ALONE and _kept.buffers[place].size in fits:
            return _kept.buffers[place]
    if _size() + num_bytes > _TOTAL_BYTES:
        # Sizes that are asked for no more.
        _kept.buffers = [buffer for buffer, count in zip(_kept.buffers, holders, strict=True) if count > _ALONE]
        if _size() + num_bytes > _TOTAL_BYTES:
            return None
    _kept.buffers.append(_new(num_bytes + _ALIGNMENT))
    return _kept.buffers[-1]


def _size() -> int:
    """Return what is kept, in whole pages."""
    return sum(-(-buffer.size // _LARGE_PAGE) * _LARGE_PAGE for buffer in _kept.buffers)


def _holders(buffers: list[Bytes]) -> list[int]:
    """Return how many references there are to each."""
    return [sys.getrefcount(buffer) for buffer in buffers]


# The count of what a list alone holds; which names count depends on the interpreter.
_ALONE = _holders([np.empty(1, np.uint8)])[0]


def _new(num_bytes: int) -> Bytes:
    try:
        return _on_large_pages(num_bytes)
    except (AttributeError, OSError):
        # Another system, or one that has no large pages.
        return np.empty(num_bytes, np.uint8)


def _on_large_pages(num_bytes: int) -> Bytes:
    # Private: a process that is forked off must not write where its parent reads.
    size = -(-num_bytes // _LARGE_PAGE) * _LARGE_PAGE + _LARGE_PAGE
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pages.madvise(mmap.MADV_HUGEPAGE)
    # Large pages begin at multiples of their size.
    start = -np.frombuffer(pages, np.uint8).ctypes.data % _LARGE_PAGE
    return np.frombuffer(pages, np.uint8, num_bytes, start)
