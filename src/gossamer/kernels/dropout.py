"""Zero numbers at random, in one pass and without a mask: whether a number stays follows from a seed and its place."""

from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray, njit
from torch import Tensor

from gossamer.kernels import threads
from gossamer.kernels.blocks import OPTIONS, TASK, next_block
from gossamer.kernels.simd import claim, pointer

_NUMPY = {torch.float32: np.float32, torch.float64: np.float64}
# Numbers in a block: even, as a word of the stream serves two.
_BLOCK = 1 << 14


def drop(numbers: Tensor, probability: float, seed: int) -> Tensor:
    """Return the numbers divided by 1 - probability, some of them zero; the same ones for the same seed.

    Args:
        numbers: float32 or float64 on the CPU, dense in memory in any order of its axes, shape [*].
        probability: that a number becomes zero, in [0, 1).
        seed: in [0, 2^63).

    Returns:
        Shape and strides of the numbers.
    """
    result = torch.empty_like(numbers)
    limit, scale = round(probability * 2**32), np.float64(1.0 / (1.0 - probability)).view(np.int64)
    words = [numbers.data_ptr(), result.data_ptr(), numbers.numel(), seed, limit, int(scale)]
    threads.run(_drop_task(_NUMPY[numbers.dtype]), words, num_blocks=-(-numbers.numel() // _BLOCK))
    return result


@njit(**OPTIONS)
def _word(seed: int, pair: int) -> int:
    """The stream of `sampling`: Steele, Lea, Flood. Fast splittable pseudorandom number generators. OOPSLA 2014."""
    word = np.uint64(seed) + np.uint64(pair + 1) * np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


@njit(**OPTIONS)
def _drop(source: Any, target: Any, seed: int, limit: int, scale: float, start: int, stop: int) -> None:
    zero, factor = source.dtype.type(0), source.dtype.type(scale)
    low = np.uint64(0xFFFFFFFF)
    for pair in range(start // 2, stop // 2):
        word = _word(seed, pair)
        i = np.uint64(2 * pair)
        target[i] = source[i] * factor if word & low >= limit else zero
        target[i + np.uint64(1)] = source[i + np.uint64(1)] * factor if word >> np.uint64(32) >= limit else zero
    if stop % 2:
        target[stop - 1] = source[stop - 1] * factor if _word(seed, stop // 2) & low >= limit else zero


@cache
def _drop_task(real: Any) -> int:
    """Compile the task; its numbers: see `drop`."""

    @TASK
    def task(data: Any) -> None:
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        size, seed, limit = numbers[2], numbers[3], np.uint64(numbers[4])
        source, target = carray(pointer(numbers[0]), size, real), carray(pointer(numbers[1]), size, real)
        scale = carray(data, threads.COUNTERS).view(np.float64)[threads.NUMBERS + 5]
        mine = claim(data, 0)
        block = next_block(data, mine)
        while block >= 0:
            _drop(source, target, seed, limit, scale, block * _BLOCK, min((block + 1) * _BLOCK, size))
            block = next_block(data, mine)

    address: int = task.address
    return address
