"""Run a compiled task on torch's own threads: one pool, so ours and torch's never fight for the processor.

A task is a C function of one pointer, called by every thread of the team at once. Each thread begins with its own share
of the blocks, which is the stretch of memory that torch's element-wise operations give it too, and then helps with the
shares of the others: a thread that is late, or never comes, costs nothing but its help.

What the pointer leads to, in int64: how many threads have arrived, how many blocks there are, how many threads the team
has; from NUMBERS on the task's own numbers; from COUNTERS on, one for each thread and STRIDE apart, how many blocks of
its share are taken.
"""

import ctypes
from array import array
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import torch

NUMBERS = 3
COUNTERS = 24
# Counters in cache lines of their own: threads that claim would wait for each other's writes.
STRIDE = 8

Parallel = Callable[[int, int, int], None]


def run(task: int, numbers: Sequence[int], *, num_blocks: int) -> None:
    """Call a task on the threads that torch uses, and return when all its blocks are done.

    Args:
        task: address of a C function `void (int64_t *data)`.
        numbers: what the task finds from NUMBERS on, 21 at most.
        num_blocks: pieces of work that the threads claim one by one.
    """
    team = min(torch.get_num_threads(), max(1, num_blocks))
    data = array("q", (0, num_blocks, team, *numbers))
    data.frombytes(bytes(8 * (COUNTERS + STRIDE * team - len(data))))
    _parallel()(task, data.buffer_info()[0], team)


@cache
def _parallel() -> Parallel:
    """How to start a team: by the OpenMP library that torch has loaded, or by a pool of Python threads."""
    for path in sorted((Path(torch.__file__).parent / "lib").glob("lib*omp*")):
        try:
            start = ctypes.CDLL(str(path)).GOMP_parallel
        except (OSError, AttributeError):
            continue
        start.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
        start.restype = None
        return lambda task, data, num_threads: start(task, data, num_threads, 0)
    return python_threads


def python_threads(task: int, data: int, num_threads: int) -> None:
    """Start a team of Python threads: for platforms whose torch brings no OpenMP library of its own."""
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(task)
    helpers = [_pool().submit(function, data) for _ in range(num_threads - 1)]
    function(data)
    for helper in helpers:
        helper.result()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="gossamer")
