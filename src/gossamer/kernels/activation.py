"""A slope for negative numbers and zeros at random, in one pass: no mask is kept, and gradients may lie either way.

Whether a number stays follows from a seed and its place in memory, so the backward pass draws the same again.

Shapes: F = features, B = batch; a sparse layer's result lies as [F, B], the gradient from a dense layer as [B, F].
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import carray, njit
from torch import Tensor

from gossamer.kernels import threads
from gossamer.kernels.blocks import NUMPY, OPTIONS, TASK, next_block
from gossamer.kernels.simd import CHUNK_BYTES, claim, pointer

# Numbers in a block: even, as a word of the stream serves two.
_BLOCK = 1 << 14


class Activation(NamedTuple):
    """What happens to each number.

    Attributes:
        slope: factor of what is not above zero; 0: ReLU, 1: nothing happens to it.
        probability: that a number becomes zero, in (0, 1); the others are divided by 1 - probability.
        seed: which numbers those are, in [0, 2^63).
    """

    slope: float
    probability: float
    seed: int


@cache
def _factors(slope: float, probability: float) -> tuple[int, int, int]:
    """As the kernel reads it: the bits of both factors, and the draw below which a number becomes zero."""
    low, scale = np.array([slope, 1.0 / (1.0 - probability)]).view(np.int64)
    return int(low), int(scale), round(probability * 2**32)


def _words(activation: Activation) -> tuple[int, int, int, int]:
    low, scale, limit = _factors(activation.slope, activation.probability)
    return low, scale, activation.seed, limit


def apply(numbers: Tensor, activation: Activation) -> Tensor:
    """Return the numbers after the activation.

    Args:
        numbers: float32 or float64 on the CPU, dense in memory in any order of its axes, shape [*].
        activation: what to do.

    Returns:
        Shape and strides of the numbers.
    """
    result = torch.empty_like(numbers)
    task = _apply_task(NUMPY[numbers.dtype], activation.slope == 0)
    words = [numbers.data_ptr(), result.data_ptr(), numbers.numel(), *_words(activation)]
    threads.run(task, words, num_blocks=-(-numbers.numel() // _BLOCK))
    return result


def gradient(grad: Tensor, numbers: Tensor, activation: Activation) -> Tensor:
    """Return the gradient before the activation.

    Args:
        grad: gradient behind it, shape of the numbers, their strides or contiguous.
        numbers: what the activation was given; its result will do for a ReLU.
        activation: what was done.

    Returns:
        Shape and strides of the numbers.
    """
    result = torch.empty_like(numbers)
    words = [grad.data_ptr(), numbers.data_ptr(), result.data_ptr()]
    types = NUMPY[numbers.dtype], activation.slope == 0
    if grad.stride() == numbers.stride() or (numbers.is_contiguous() and grad.is_contiguous()):
        words += [numbers.numel(), *_words(activation)]
        threads.run(_gradient_task(*types), words, num_blocks=-(-numbers.numel() // _BLOCK))
        return result
    batch, features = numbers.shape
    words += [features, *_words(activation), batch]
    blocks = -(-features * numbers.element_size() // CHUNK_BYTES)
    threads.run(_across_task(*types), words, num_blocks=blocks)
    return result


def fits(grad: Tensor, numbers: Tensor) -> bool:
    """Whether `gradient` takes these as they lie."""
    if grad.stride() == numbers.stride():
        return True
    return grad.is_contiguous() and (numbers.is_contiguous() or (numbers.dim() == 2 and numbers.t().is_contiguous()))


@njit(**OPTIONS)
def _word(seed: int, pair: int) -> int:
    """The stream of `sampling`: Steele, Lea, Flood. Fast splittable pseudorandom number generators. OOPSLA 2014."""
    word = np.uint64(seed) + np.uint64(pair + 1) * np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


@njit(**OPTIONS)
def _stays(seed: int, place: int, limit: int) -> Any:
    word = _word(seed, place // 2)
    part = word >> np.uint64(32) if place % 2 else word & np.uint64(0xFFFFFFFF)
    return part >= limit


@njit(**OPTIONS)
def _apply(
    source: Any, target: Any, slope: Any, scale: Any, relu: Any, seed: int, limit: int, start: int, stop: int
) -> None:
    zero = source.dtype.type(0)
    for pair in range(start // 2, (stop + 1) // 2):
        word = _word(seed, pair)
        i = np.uint64(2 * pair)
        number = source[i]
        low = slope if len(relu) else number * slope
        bent = number if not number <= 0 else low
        target[i] = bent * scale if word & np.uint64(0xFFFFFFFF) >= limit else zero
        if 2 * pair + 1 < stop:
            number = source[i + np.uint64(1)]
            low = slope if len(relu) else number * slope
            bent = number if not number <= 0 else low
            target[i + np.uint64(1)] = bent * scale if word >> np.uint64(32) >= limit else zero


@njit(**OPTIONS)
def _gradient(grad: Any, numbers: Any, target: Any, slope: Any, factor: Any, start: int, stop: int) -> None:
    for place in range(start, stop):
        i = np.uint64(place)
        target[i] = grad[i] * (slope if numbers[i] <= 0 else factor)


@njit(**OPTIONS)
def _gradient_and_drop(
    grad: Any, numbers: Any, target: Any, slope: Any, factor: Any, seed: int, limit: int, start: int, stop: int
) -> None:
    zero = grad.dtype.type(0)
    for pair in range(start // 2, (stop + 1) // 2):
        word = _word(seed, pair)
        i = np.uint64(2 * pair)
        part = grad[i] * (slope if numbers[i] <= 0 else factor)
        target[i] = part if word & np.uint64(0xFFFFFFFF) >= limit else zero
        if 2 * pair + 1 < stop:
            part = grad[i + np.uint64(1)] * (slope if numbers[i + np.uint64(1)] <= 0 else factor)
            target[i + np.uint64(1)] = part if word >> np.uint64(32) >= limit else zero


@njit(**OPTIONS)
def _across(
    grad_BF: Any,
    numbers_FB: Any,
    target_FB: Any,
    slope: Any,
    factor: Any,
    drops: Any,
    seed: int,
    limit: int,
    start: int,
    stop: int,
) -> None:
    batch = numbers_FB.shape[1]
    zero = grad_BF.dtype.type(0)
    for row in range(start, stop):
        feature = np.uint64(row)
        for column in range(batch):
            sample = np.uint64(column)
            part = grad_BF[sample, feature] * (slope if numbers_FB[feature, sample] <= 0 else factor)
            if len(drops) and not _stays(seed, row * batch + column, limit):
                part = zero
            target_FB[feature, sample] = part


@cache
def _apply_task(real: Any, is_relu: bool) -> int:
    """Compile the task of `apply`; its numbers: see there."""
    relu = (0,) if is_relu else ()

    @TASK
    def task(data: Any) -> None:
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        factors = carray(data, threads.COUNTERS).view(np.float64)[threads.NUMBERS :]
        size, seed, limit = numbers[2], numbers[5], np.uint64(numbers[6])
        source, target = carray(pointer(numbers[0]), size, real), carray(pointer(numbers[1]), size, real)
        slope, scale = real(factors[3]), real(factors[4])
        mine = claim(data, 0)
        block = next_block(data, mine)
        while block >= 0:
            start, stop = block * _BLOCK, min((block + 1) * _BLOCK, size)
            _apply(source, target, slope, scale, relu, seed, limit, start, stop)
            block = next_block(data, mine)

    address: int = task.address
    return address


@cache
def _gradient_task(real: Any, is_relu: bool) -> int:
    """Compile the task of `gradient` for numbers that lie alike."""
    # A ReLU's result is zero where something was dropped: nothing needs to be drawn again.
    again = not is_relu

    @TASK
    def task(data: Any) -> None:
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        factors = carray(data, threads.COUNTERS).view(np.float64)[threads.NUMBERS :]
        size, seed, limit = numbers[3], numbers[6], np.uint64(numbers[7])
        grad, given = carray(pointer(numbers[0]), size, real), carray(pointer(numbers[1]), size, real)
        target = carray(pointer(numbers[2]), size, real)
        slope, scale = real(factors[4] * factors[5]), real(factors[5])
        mine = claim(data, 0)
        block = next_block(data, mine)
        while block >= 0:
            start, stop = block * _BLOCK, min((block + 1) * _BLOCK, size)
            if again:
                _gradient_and_drop(grad, given, target, slope, scale, seed, limit, start, stop)
            else:
                _gradient(grad, given, target, slope, scale, start, stop)
            block = next_block(data, mine)

    address: int = task.address
    return address


@cache
def _across_task(real: Any, is_relu: bool) -> int:
    """Compile the task of `gradient` for a batch-major gradient of feature-major numbers."""
    again = () if is_relu else (0,)
    lanes = CHUNK_BYTES // np.dtype(real).itemsize

    @TASK
    def task(data: Any) -> None:
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        factors = carray(data, threads.COUNTERS).view(np.float64)[threads.NUMBERS :]
        features, seed, limit, batch = numbers[3], numbers[6], np.uint64(numbers[7]), numbers[8]
        grad_BF = carray(pointer(numbers[0]), (batch, features), real)
        numbers_FB = carray(pointer(numbers[1]), (features, batch), real)
        target_FB = carray(pointer(numbers[2]), (features, batch), real)
        slope, scale = real(factors[4] * factors[5]), real(factors[5])

        mine = claim(data, 0)
        block = next_block(data, mine)
        while block >= 0:
            stop = min((block + 1) * lanes, features)
            _across(grad_BF, numbers_FB, target_FB, slope, scale, again, seed, limit, block * lanes, stop)
            block = next_block(data, mine)

    address: int = task.address
    return address
