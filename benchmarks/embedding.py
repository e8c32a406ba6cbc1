"""Time forward and backward of a sparse table against `nn.Embedding`, interleaved in one run, and their memory.

    python benchmarks/embedding.py                                 100 000 x 64, 90 % sparse, 4096 look-ups
    python benchmarks/embedding.py --rows 1000000 --width 128 --sparsity 0.95

The dense table is timed with a dense gradient and with torch's sparse one, whose rows are full and which few optimizers
take. The optimizer's step is not timed; for the sparse table it touches the active entries alone.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from gossamer.machine import describe_machine
from gossamer.nn import SparseEmbedding

Step = Callable[[], None]


def make_step(table: nn.Module, indices: Tensor, grad: Tensor) -> Step:
    def step() -> None:
        table.zero_grad()
        table(indices).backward(grad)

    return step


def make_forward(table: nn.Module, indices: Tensor) -> Step:
    def step() -> None:
        with torch.no_grad():
            table(indices)

    return step


def measure(steps: dict[str, Step], *, rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """Return the median milliseconds of each step over interleaved rounds."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, step in steps.items():
            step()
            start = clock()
            step()
            step()
            times[name].append(500 * (clock() - start))
    return {name: statistics.median(taken[1:]) for name, taken in times.items()}


def num_bytes(table: nn.Module) -> int:
    return sum(part.numel() * part.element_size() for part in (*table.parameters(), *table.buffers()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--batch", type=int, default=4096, help="look-ups of a step")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--cpu-time", action="store_true", help="of one thread, for a machine that others use")
    options = parser.parse_args()
    if options.threads or options.cpu_time:
        torch.set_num_threads(options.threads or 1)
    generator = torch.Generator().manual_seed(0)
    sparse = SparseEmbedding(options.rows, options.width, sparsity=options.sparsity, generator=generator)
    tables: dict[str, nn.Module] = {"dense": sparse.to_dense(), "gossamer": sparse}
    tables["dense, sparse gradient"] = nn.Embedding(options.rows, options.width, sparse=True)
    indices = torch.randint(options.rows, (options.batch,), generator=generator)
    grad = torch.randn(options.batch, options.width, generator=generator)
    clock = time.thread_time if options.cpu_time else time.perf_counter
    forward = measure(
        {name: make_forward(table, indices) for name, table in tables.items()}, rounds=options.rounds, clock=clock
    )
    both = measure(
        {name: make_step(table, indices, grad) for name, table in tables.items()}, rounds=options.rounds, clock=clock
    )
    title = f"{options.rows} x {options.width}, sparsity {options.sparsity}, {options.batch} look-ups"
    result = Table(title=title, title_justify="left")
    for header in ("table", "memory", "forward", "dense / this", "forward + backward", "dense / this"):
        result.add_column(header, justify="left" if header == "table" else "right")
    for name, table in tables.items():
        result.add_row(
            name,
            f"{num_bytes(table) / 1e6:.1f} MB",
            f"{forward[name]:.3f} ms",
            f"{forward['dense'] / forward[name]:.2f}x",
            f"{both[name]:.3f} ms",
            f"{both['dense'] / both[name]:.2f}x",
        )
    console = Console()
    console.print(describe_machine(), f"load {os.getloadavg()[0]:.2f} at the end")
    console.print(result)


if __name__ == "__main__":
    main()
