"""Time every storage of a linear weight against dense and against torch's own block format, interleaved in one run.

    python benchmarks/formats.py                                 2048 x 2048, 90 % sparse, 64 columns, one thread
    python benchmarks/formats.py --shape 1000x784 --batch 1

Each storage has weights of the structure that it is made for. torch multiplies its BSR matrix with [features, batch],
which is the layout that it is fastest in; ours go through their layers, with inputs as a layer of ours leaves them.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from gossamer import formats, patterns
from gossamer.machine import describe_machine
from gossamer.nn import SparseLinear

PATTERNS: dict[str, patterns.Pattern] = {
    "unstructured": patterns.unstructured(),
    "constant fan-in": patterns.constant_fan_in(),
    "blocks 4 x 1": patterns.block(4, 1),
    "blocks 8 x 1": patterns.block(8, 1),
    "blocks 4 x 4": patterns.block(4, 4),
    "blocks 8 x 8": patterns.block(8, 8),
    "blocks 16 x 16": patterns.block(16, 16),
    "whole outputs": patterns.row(),
}
COLUMNS = ("dense", "csr", "block", "constant_fan_in", "compact", "torch BSR")


def layer_of(pattern: patterns.Pattern, shape: tuple[int, int], sparsity: float) -> SparseLinear:
    """A layer with normal weights at random places of a pattern."""
    count = pattern.nearest(shape, round(shape[0] * shape[1] * (1 - sparsity)))
    mask = pattern.keep(torch.rand(shape), count)
    linear = nn.Linear(shape[1], shape[0])
    linear.weight.data = torch.randn(shape) * mask
    return SparseLinear.from_dense(linear, mask=mask)


def contenders(layer: SparseLinear, pattern: str, inputs: Tensor) -> dict[str, Callable[[], object]]:
    """Everything that can multiply with the layer's weight."""
    dense, columns = layer.to_dense(), inputs.t().contiguous()
    runs: dict[str, Callable[[], object]] = {"dense": partial(dense, inputs)}
    for name in COLUMNS[1:-1]:
        held = formats.LINEAR[name](layer)
        if held is not None:
            runs[name] = partial(held, columns.t())
    if pattern.startswith("blocks"):
        size = tuple(int(part) for part in pattern.removeprefix("blocks ").split(" x "))
        if all(length % part == 0 for length, part in zip(dense.weight.shape, size, strict=True)):
            weight = dense.weight.detach().to_sparse_bsr(size)
            runs["torch BSR"] = partial(torch.matmul, weight, columns)
            try:
                runs["torch BSR"]()
            except RuntimeError:
                del runs["torch BSR"]
    return runs


def medians(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Milliseconds of each, in turns: processor time with one thread, wall time with more."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 2):
        for name, run in runs.items():
            run()
            start = clock()
            run()
            if number >= 2:
                samples[name].append(1e3 * (clock() - start))
    return {name: statistics.median(each) for name, each in samples.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="2048x2048")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    outputs, inputs = map(int, options.shape.split("x"))
    table = Table("weights", *COLUMNS, box=None)
    with torch.no_grad():
        for name, pattern in PATTERNS.items():
            layer = layer_of(pattern, (outputs, inputs), options.sparsity)
            times = medians(contenders(layer, name, torch.randn(options.batch, inputs)), options.rounds)
            cells = [f"{times[each]:.3f}" if each in times else "-" for each in COLUMNS]
            table.add_row(name, *cells)
    machine = describe_machine()
    console = Console()
    console.print(f"ms; {options.shape}, {options.sparsity:g} sparse, batch {options.batch}; {machine['machine']}")
    console.print(f"{machine['threads']} threads, torch {machine['torch']}")
    console.print(table)


if __name__ == "__main__":
    main()
