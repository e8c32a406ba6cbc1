"""The optimizer's update in the pass that adds up the gradient, while both are in the cache.

Shapes: K = numbers of a parameter. What the optimizer remembers is in torch's places under torch's names, so that it
may take over, or be saved, at any time.
"""

from array import array
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numba import carray, njit
from torch import Tensor

from gossamer.kernels import threads
from gossamer.kernels.blocks import NUMPY, OPTIONS, TASK, next_block
from gossamer.kernels.simd import claim, pointer

# Numbers that are summed, then updated, before the next ones: few enough for the first cache.
_CHUNK = 1 << 10
# Numbers below which one thread updates faster than two would find to each other.
_ALONE = 1 << 14


class Rule(NamedTuple):
    """One step of an optimizer for one parameter.

    Attributes:
        parameter: what is updated, contiguous, float32 or float64, on the CPU.
        states: what the optimizer remembers of it, contiguous, shapes and dtypes as the parameter: SGD's momentum or
            nothing, Adam's two averages.
        numbers: settings, learning rate and weight decay of the gradient first; then of SGD: momentum, 1 - dampening, 1
            with Nesterov's momentum, 1 at the first step; of Adam, whose learning rate is over the first average's
            correction: the root of the second's, two decay rates, epsilon, factor of the parameter.
        descends: False: the gradient is followed upwards.
    """

    parameter: Tensor
    states: tuple[Tensor, ...]
    numbers: tuple[float, ...]
    descends: bool


def apply(rule: Rule, grad: Tensor, others: int = 0, groups: int = 1) -> None:
    """Update a parameter, and write over its gradient.

    Args:
        rule: how.
        grad: the gradient, contiguous, as many numbers of the same dtype; holds nothing of use afterwards.
        others: address of `groups` - 1 further parts of the gradient, one after the other.
        groups: parts that make up the gradient.
    """
    count = grad.numel()
    settings = array("d", (1.0 if rule.descends else -1.0, *rule.numbers))
    first, second, *_ = (*(state.data_ptr() for state in rule.states), 0, 0)
    threads.run(
        _task(NUMPY[grad.dtype], (0,) * len(rule.states)),
        [
            *(rule.parameter.data_ptr(), grad.data_ptr(), others, first, second),
            *(settings.buffer_info()[0], len(settings), count, groups),
        ],
        num_blocks=max(1, min(torch.get_num_threads(), count // _ALONE)),
    )
    torch.autograd.graph.increment_version(rule.parameter)


# Loops over views from 0 on: Numba asks of any other index whether it is negative, and that is not vectorised.


@njit(**OPTIONS)
def _gather(values, grad, others, settings):
    """Add up the parts of the gradient, turn it to where the sum is to fall, and add the weight decay."""
    sign, decay = values.dtype.type(settings[0]), values.dtype.type(settings[2])
    for group in range(others.shape[0]):
        part = others[group]
        for slot in range(grad.size):
            grad[slot] += part[slot]
    for slot in range(grad.size):
        grad[slot] = sign * grad[slot] + decay * values[slot]


@njit(**OPTIONS)
def _plain(values, grad, settings):
    rate = values.dtype.type(settings[1])
    for slot in range(grad.size):
        values[slot] -= rate * grad[slot]


@njit(**OPTIONS)
def _with_momentum(values, grad, states, settings):
    rate, momentum = values.dtype.type(settings[1]), values.dtype.type(settings[3])
    # The first step's momentum is the gradient itself, whatever the dampening.
    share = values.dtype.type(1 if settings[6] else settings[4])
    if settings[5]:
        for slot in range(grad.size):
            moved = momentum * states[slot] + share * grad[slot]
            states[slot] = moved
            values[slot] -= rate * (grad[slot] + momentum * moved)
    else:
        for slot in range(grad.size):
            moved = momentum * states[slot] + share * grad[slot]
            states[slot] = moved
            values[slot] -= rate * moved


@njit(**OPTIONS)
def _with_averages(values, grad, first, second, settings):
    rate, root = values.dtype.type(settings[1]), values.dtype.type(settings[3])
    near, kept = values.dtype.type(1 - settings[4]), values.dtype.type(settings[5])
    rest, epsilon = values.dtype.type(1 - settings[5]), values.dtype.type(settings[6])
    factor = values.dtype.type(settings[7])
    for slot in range(grad.size):
        g = grad[slot]
        mean = first[slot] + near * (g - first[slot])
        square = kept * second[slot] + rest * g * g
        first[slot], second[slot] = mean, square
        values[slot] = factor * values[slot] - rate * mean / (np.sqrt(square) / root + epsilon)


@cache
def _task(real, states):
    """Compile the task that updates, with no, one or two `states`: () for none, (0,) for one; its data: see `apply`."""

    @TASK
    def run(data):
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        count, groups = numbers[7], numbers[8]
        values = carray(pointer(numbers[0]), count, real)
        grad = carray(pointer(numbers[1]), count, real)
        others = carray(pointer(numbers[2]), (groups - 1, count), real)
        first = carray(pointer(numbers[3]), count if len(states) > 0 else 0, real)
        second = carray(pointer(numbers[4]), count if len(states) > 1 else 0, real)
        settings = carray(pointer(numbers[5]), numbers[6], np.float64)
        blocks = carray(data, threads.NUMBERS)[1]
        mine = claim(data, 0)
        block = next_block(data, mine)
        while block >= 0:
            last = count * (block + 1) // blocks
            for start in range(count * block // blocks, last, _CHUNK):
                stop = min(start + _CHUNK, last)
                part, part_grad = values[start:stop], grad[start:stop]
                _gather(part, part_grad, others[:, start:stop], settings)
                if len(states) == 2:
                    _with_averages(part, part_grad, first[start:stop], second[start:stop], settings)
                elif len(states) == 1:
                    _with_momentum(part, part_grad, first[start:stop], settings)
                else:
                    _plain(part, part_grad, settings)
            block = next_block(data, mine)

    return run.address
