"""What memory between layers that is used again saves: one network alone in the process, with it and without.

    python benchmarks/buffers.py
    python benchmarks/buffers.py --sizes 784-1000-1000-1000-10 --rounds 20

A round takes some steps with buffers and as many without. The table gives medians of the rounds, and how many pages a
step has the system fill with zeros. In a process that has freed larger blocks before, such as one that trained a dense
network, the allocator keeps them and there is nothing to save.
"""

import argparse
import resource
import statistics
import time

import torch
from torch.nn.functional import cross_entropy

from gossamer import budgets, models
from gossamer.cli.tables import say
from gossamer.kernels import buffers
from gossamer.machine import describe_machine


def budget(shapes: dict[str, tuple[int, ...]], *, sparsity: float) -> dict[str, int]:
    return budgets.er_epsilon(shapes, epsilon=20.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="784-4096-4096-4096-10")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=20, help="of a round, each way")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split("-")]
    generator = torch.Generator().manual_seed(0)
    model = models.mlp(sizes, sparsity=0.9, budget=budget, generator=generator)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)
    inputs, targets = torch.randn(options.batch, sizes[0]), torch.randint(sizes[-1], (options.batch,))

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(model(inputs), targets).backward()
        optimizer.step()

    say(f"{describe_machine()}")
    most = buffers._MOST_BYTES
    taken: dict[str, list[float]] = {"used again": [], "from the allocator": []}
    pages: dict[str, list[float]] = {name: [] for name in taken}
    for _ in range(options.rounds):
        for name in taken:
            buffers._MOST_BYTES = most if name == "used again" else 0
            step()
            step()
            before, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
            for _ in range(options.steps):
                step()
            taken[name].append(1e3 * (time.perf_counter() - start) / options.steps)
            pages[name].append((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / options.steps)
    for name in taken:
        say(f"{name}: {statistics.median(taken[name]):.2f} ms a step, {statistics.median(pages[name]):.0f} pages")


if __name__ == "__main__":
    main()
