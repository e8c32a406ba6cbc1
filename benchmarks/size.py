"""Time and memory by the number of weights, over four decades: both should grow as the weights do, and no faster.

    python benchmarks/size.py
    python benchmarks/size.py --up-to 1e8

A network of --hidden-layers wide layers with --epsilon weights a neuron on either side, made, trained with momentum
and evolved by SET. A process of its own for each size, whose memory before the network is taken off; the last row is
the slope of the logarithms over the sizes from 5e4 weights on, 1 where cost follows the weights.
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch.nn.functional import cross_entropy

from gossamer import budgets, models, recipes
from gossamer.machine import describe_machine

STAGES = ("made", "a step", "an evolution")


def seconds_of(stage: Callable[[], object]) -> float:
    start = time.thread_time()
    stage()
    return time.thread_time() - start


def measure(sizes: list[int], epsilon: float, batch: int, rounds: int) -> dict[str, float]:
    """Return weights, CPU seconds of each stage and the bytes of memory that the process then held at most."""
    generator = torch.Generator().manual_seed(0)
    shapes = {str(i): (sizes[i + 1], sizes[i]) for i in range(len(sizes) - 1)}
    kept = budgets.er_epsilon(shapes, epsilon=epsilon)
    start = time.thread_time()
    model = models.mlp(sizes, sparsity=0.5, budget=lambda *_, **__: kept, generator=generator)
    results = {"made": time.thread_time() - start, "weights": float(sum(kept.values()))}
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    sparsifier = recipes.set_(model, optimizer, update_every=1, stop_step=10**9, generator=generator)
    inputs = torch.randn(batch, sizes[0], generator=generator)
    targets = torch.randint(sizes[-1], (batch,), generator=generator)

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(model(inputs), targets).backward()
        optimizer.step()

    times = [(seconds_of(step), seconds_of(sparsifier.step)) for _ in range(rounds + 1)]
    for name, taken in zip(STAGES[1:], zip(*times[1:], strict=True), strict=True):
        results[name] = statistics.median(taken)
    return results


def child(weights: float, options: argparse.Namespace) -> None:
    """Measure one size in this process, after all code is loaded and compiled."""
    torch.set_num_threads(1)
    measure([300, 20_000, 20_000, 2], 1.0, options.batch, 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Each hidden layer brings epsilon weights for a neuron on either side of it.
    width = max(8, round(weights / (2 * options.epsilon * options.hidden_layers)))
    sizes = [max(8, width // 8), *[width] * options.hidden_layers, 2]
    results = measure(sizes, options.epsilon, options.batch, options.rounds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps(results | {"memory": 1024.0 * peak, "neurons": float(sum(sizes))}))


def slope(rows: list[dict[str, float]], name: str) -> float:
    """Return the slope of log(cost) over log(weights) by least squares, leaving out what is too small to tell."""
    points = [
        (math.log(row["weights"]), math.log(row[name])) for row in rows if row["weights"] >= 5e4 and row[name] > 0
    ]
    if len(points) < 2:
        return math.nan
    middle = [statistics.fmean(values) for values in zip(*points, strict=True)]
    above = sum((x - middle[0]) * (y - middle[1]) for x, y in points)
    return above / sum((x - middle[0]) ** 2 for x, _ in points)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", type=float, default=1e4, dest="smallest")
    parser.add_argument("--up-to", type=float, default=1e7)
    parser.add_argument("--hidden-layers", type=int, default=3)
    parser.add_argument("--epsilon", type=float, default=10.0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        child(options.one, options)
        return
    rows = []
    weights = options.smallest
    while weights <= options.up_to * 1.01:
        command = [sys.executable, __file__, *sys.argv[1:], "--one", str(weights)]
        rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        weights *= 10
    table = Table(title=f"epsilon {options.epsilon:g}, batch {options.batch}, one thread", title_justify="left")
    for header in ("weights", "neurons", *(f"{stage}, ns/weight" for stage in STAGES), "peak memory, bytes/weight"):
        table.add_column(header, justify="right")
    for row in rows:
        cells = [f"{1e9 * row[stage] / row['weights']:.1f}" for stage in STAGES]
        memory = f"{row['memory'] / row['weights']:.1f}"
        table.add_row(f"{row['weights']:,.0f}", f"{row['neurons']:,.0f}", *cells, memory)
    table.add_row("slope", "", *(f"{slope(rows, name):.3f}" for name in (*STAGES, "memory")))
    console = Console(width=120)
    console.print(describe_machine())
    console.print(table)


if __name__ == "__main__":
    main()
