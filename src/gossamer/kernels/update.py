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
        numbers: settings; of SGD: learning rate, weight decay, momentum, 1 - dampening, 1 with Nesterov's momentum, 1
            at the first step; of Adam: learning rate over the first average's correction, the root of the second's,
            two decay rates, epsilon, weight decay of the gradient, factor of the parameter.
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
    settings = array("d", (*rule.numbers, 1.0 if rule.descends else -1.0))
    kind = _adam_task if len(rule.states) == 2 else _sgd_task
    states = tuple(state.data_ptr() for state in rule.states)
    threads.run(
        kind(NUMPY[grad.dtype]),
        [
            *(rule.parameter.data_ptr(), grad.data_ptr(), others, count, groups, settings.buffer_info()[0]),
            *(*states, 0, 0)[:2],
        ],
        num_blocks=max(1, min(torch.get_num_threads(), count // _ALONE)),
    )
    torch.autograd.graph.increment_version(rule.parameter)


# Loops over views from 0 on: Numba asks of any other index whether it is negative, and that is not vectorised.


@njit(**OPTIONS)
def _gather(grad, others, sign, decay, values):
    """Add up the parts of the gradient, turn it to where the sum is to fall, and add the weight decay."""
    for group in range(others.shape[0]):
        part = others[group]
        for slot in range(grad.size):
            grad[slot] += part[slot]
    for slot in range(grad.size):
        grad[slot] = sign * grad[slot] + decay * values[slot]


@njit(**OPTIONS)
def _plain(values, grad, rate):
    for slot in range(grad.size):
        values[slot] -= rate * grad[slot]


@njit(**OPTIONS)
def _with_momentum(values, grad, states, rate, momentum, share, nesterov):
    if nesterov:
        for slot in range(grad.size):
            moved = momentum * states[slot] + share * grad[slot]
            states[slot] = moved
            values[slot] -= rate * (grad[slot] + momentum * moved)
    else:
        for slot in range(grad.size):
            moved = momentum * states[slot] + share * grad[slot]
            states[slot] = moved
            values[slot] -= rate * moved


@cache
def _sgd_task(real):
    """Compile the task of SGD; its data: see `apply`."""

    @TASK
    def run(data):
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        count, groups = numbers[3], numbers[4]
        values = carray(pointer(numbers[0]), count, real)
        grad = carray(pointer(numbers[1]), count, real)
        others = carray(pointer(numbers[2]), (groups - 1, count), real)
        settings = carray(pointer(numbers[5]), 7, np.float64)
        rate, decay, momentum = real(settings[0]), real(settings[1]), real(settings[2])
        nesterov, first, sign = settings[4] != 0, settings[5] != 0, real(settings[6])
        # The first step's momentum is the gradient itself, whatever the dampening.
        share = real(1) if first else real(settings[3])
        states = carray(pointer(numbers[6]), count if numbers[6] else 0, real)
        blocks = carray(data, threads.NUMBERS)[1]
        mine = claim(data, 0)
        block = next_block(data, mine)
        while block >= 0:
            last = count * (block + 1) // blocks
            for start in range(count * block // blocks, last, _CHUNK):
                stop = min(start + _CHUNK, last)
                mine_values, mine_grad = values[start:stop], grad[start:stop]
                _gather(mine_grad, others[:, start:stop], sign, decay, mine_values)
                if states.size:
                    _with_momentum(mine_values, mine_grad, states[start:stop], rate, momentum, share, nesterov)
                else:
                    _plain(mine_values, mine_grad, rate)
            block = next_block(data, mine)

    return run.address


@njit(**OPTIONS)
def _with_averages(values, grad, first, second, rate, root, one, two, rest, epsilon, keeps):
    for slot in range(grad.size):
        g = grad[slot]
        mean = first[slot] + one * (g - first[slot])
        square = two * second[slot] + rest * g * g
        first[slot], second[slot] = mean, square
        values[slot] = keeps * values[slot] - rate * mean / (np.sqrt(square) / root + epsilon)


@cache
def _adam_task(real):
    """Compile the task of Adam and AdamW; its data: see `apply`."""

    @TASK
    def run(data):
        numbers = carray(data, threads.COUNTERS)[threads.NUMBERS :]
        count, groups = numbers[3], numbers[4]
        values = carray(pointer(numbers[0]), count, real)
        grad = carray(pointer(numbers[1]), count, real)
        others = carray(pointer(numbers[2]), (groups - 1, count), real)
        settings = carray(pointer(numbers[5]), 8, np.float64)
        rate, root = real(settings[0]), real(settings[1])
        one, two, rest = real(1 - settings[2]), real(settings[3]), real(1 - settings[3])
        epsilon, decay, keeps = real(settings[4]), real(settings[5]), real(settings[6])
        first, second = carray(pointer(numbers[6]), count, real), carray(pointer(numbers[7]), count, real)
        blocks = carray(data, threads.NUMBERS)[1]
        mine = claim(data, 0)
        block = next_block(data, mine)
        while block >= 0:
            last = count * (block + 1) // blocks
            for start in range(count * block // blocks, last, _CHUNK):
                stop = min(start + _CHUNK, last)
                part, mine_grad = values[start:stop], grad[start:stop]
                _gather(mine_grad, others[:, start:stop], real(settings[7]), decay, part)
                averages = first[start:stop], second[start:stop]
                _with_averages(part, mine_grad, *averages, rate, root, one, two, rest, epsilon, keeps)
            block = next_block(data, mine)

    return run.address
