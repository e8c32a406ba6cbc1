"""Time our products between torch's own: two pools of threads that fight for the processor would lengthen both.

    python benchmarks/threads.py

A sparse layer's training step and a dense product of torch are timed alone and in turn, all in one run. What the pair
takes beyond the sum of both is what they cost each other: caches that the other has emptied, and threads that wait
for each other. The rivals have threads of their own.
"""

import argparse
import importlib.util
import os
from collections.abc import Callable

import torch
from layer import training_step
from rich.console import Console
from rich.table import Table
from rivals import RIVALS
from timing import measure
from torch import nn

from gossamer.machine import describe_machine
from gossamer.nn import SparseLinear


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--in-a-row", type=int, default=10)
    options = parser.parse_args()
    console = Console(width=120)
    console.print(describe_machine(), f"load {os.getloadavg()[0]:.2f} at the start")
    sparse = SparseLinear(1000, 1000, sparsity=0.95, generator=torch.Generator().manual_seed(0))
    layers: dict[str, nn.Module] = {"gossamer": sparse}
    for name in ("sparselab", "sparseprop"):
        if importlib.util.find_spec(name):
            layers[name] = RIVALS[name](sparse)
    left, right = torch.randn(300, 300), torch.randn(300, 300)
    inputs, grad = torch.randn(128, 1000).t().contiguous().t(), torch.randn(128, 1000).t().contiguous().t()
    steps: dict[str, Callable[[], object]] = {"torch": lambda: left @ right}

    def between(step: Callable[[], object]) -> Callable[[], None]:
        def both() -> None:
            step()
            torch.mm(left, right)

        return both

    for name, layer in layers.items():
        steps[name] = training_step(layer, inputs.clone().requires_grad_(), grad)
        steps[f"{name} between"] = between(steps[name])
    times = measure(steps, rounds=options.rounds, in_a_row=options.in_a_row)
    table = Table(title="a training step of 1000 x 1000 at 95 %, and torch's 300 x 300 x 300", title_justify="left")
    for header in ("layer", "alone", "torch alone", "in turn", "in turn / sum"):
        table.add_column(header, justify="right")
    alone = float(times["torch"])
    for name in layers:
        own, both = float(times[name]), float(times[f"{name} between"])
        table.add_row(name, f"{own:.3f} ms", f"{alone:.3f} ms", f"{both:.3f} ms", f"{both / (own + alone):.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
