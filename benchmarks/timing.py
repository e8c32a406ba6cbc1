"""Time contenders in one run: interleaved, each a few times in a row, medians over the rounds.

With one thread the time is the processor's, which other programs do not lengthen; with more it is the clock's.
"""

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def measure(steps: Mapping[str, Callable[[], object]], *, rounds: int, in_a_row: int) -> dict[str, float | str]:
    """Return the median milliseconds of each step over interleaved rounds, or what went wrong."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    failed: dict[str, str] = {}
    for _ in range(rounds + 1):
        for name, step in steps.items():
            if name in failed:
                continue
            try:
                step()
                step()
                start = clock()
                for _ in range(in_a_row):
                    step()
                times[name].append(1e3 * (clock() - start) / in_a_row)
            except (RuntimeError, NotImplementedError) as error:
                failed[name] = " ".join(str(error).split())[:60]
    return {name: failed.get(name) or statistics.median(taken[1:]) for name, taken in times.items()}
