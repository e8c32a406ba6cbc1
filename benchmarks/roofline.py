"""Measure what this machine can do at most: multiplications a second, and bytes a second from each level of memory.

    python benchmarks/roofline.py

The same vector code as in the kernels: a chain of fused multiply-adds that stays in registers for the peak, and one
that reads its operand from a buffer that fits the first cache, the second cache, or neither, for the bandwidths. All
threads that torch uses run at once, each on a buffer of its own. `layer.py` and `inference.py` take their limits here.
"""

import time
from dataclasses import dataclass
from functools import cache

import torch
from rich.console import Console
from rich.table import Table
from roofline_loops import LANES, make

from gossamer.kernels import threads
from gossamer.kernels.simd import CHUNK_BYTES
from gossamer.machine import describe_machine

# Bytes each thread reads again and again: well inside the first cache, inside the second, inside the third or beyond.
BUFFERS = {"L1": 16 << 10, "L2": 768 << 10, "L3": 8 << 20, "memory": 256 << 20}
# Seconds that each limit is looked for.
_LONG = 1.5


@dataclass(frozen=True, kw_only=True)
class Roofline:
    """What all threads together reach.

    Attributes:
        gflops: float32 multiplications and additions a second, in 1e9.
        gigabytes: bytes read a second from each level, in 1e9.
        num_threads: how many threads that was.
    """

    gflops: float
    gigabytes: dict[str, float]
    num_threads: int


def _seconds(reads: bool, width: tuple[int, ...], rows: int, repeats: int) -> float:
    """Return the best time of several: a limit is what can be reached, not what is usual."""
    team = torch.get_num_threads()
    buffers = torch.rand(team, rows, len(width) * LANES)
    sums = torch.zeros(team)
    numbers = [rows, repeats, buffers.data_ptr(), team, sums.data_ptr()]
    best, until, tries = float("inf"), time.perf_counter() + _LONG, 0
    # Where another program has the second processor for a second, each of a few tries would take twice as long.
    while tries < 7 or time.perf_counter() < until:
        start = time.perf_counter()
        threads.run(make(reads, width), numbers, num_blocks=team)
        best, tries = min(best, time.perf_counter() - start), tries + 1
    return best


@cache
def measure() -> Roofline:
    """Measure the peak and the bandwidths; about eight seconds."""
    team = torch.get_num_threads()
    repeats = 1 << 20
    # Two chunks a value: ten independent chains of 512 bits, or twenty of 256.
    flops = 5 * 2 * 2 * LANES * repeats * team / _seconds(False, (0,) * 2, 1, repeats)
    bandwidths = {}
    for level, size in BUFFERS.items():
        width = (0,) * 4
        rows = size // (len(width) * CHUNK_BYTES)
        repeats = max(2, (1 << 28) // size)
        moved = rows * len(width) * CHUNK_BYTES * repeats * team
        bandwidths[level] = moved / _seconds(True, width, rows, repeats) / 1e9
    return Roofline(gflops=flops / 1e9, gigabytes=bandwidths, num_threads=team)


def level_of(num_bytes: float) -> str:
    """Return the level of memory that holds so many bytes of one thread."""
    for level, size in (("L1", 40 << 10), ("L2", 1792 << 10), ("L3", 24 << 20)):
        if num_bytes <= size:
            return level
    return "memory"


def main() -> None:
    console = Console()
    console.print(describe_machine())
    roofline = measure()
    table = Table(title=f"{roofline.num_threads} threads", title_justify="left")
    table.add_column("limit")
    table.add_column("reached", justify="right")
    table.add_row("multiply-add", f"{roofline.gflops:.0f} GFLOP/s")
    for level, bandwidth in roofline.gigabytes.items():
        table.add_row(f"read from {level}", f"{bandwidth:.0f} GB/s")
    console.print(table)


if __name__ == "__main__":
    main()
