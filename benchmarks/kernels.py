"""Time the linear kernels alone, forward and backward, against what this machine can do at most.

    python benchmarks/kernels.py --threads 1
    python benchmarks/kernels.py

`limit` counts the operations and one float32 of the gathered operand a weight and sample from the level of memory that
holds a stripe of it; indices, values and results come on top, so nothing reaches it wholly. The last line shows what a
layer's step costs before any work: a layer of 64 x 64 with 5 % of the weights, batch 16, beside nn.Linear.
"""

import argparse
from collections.abc import Callable

import roofline
import torch
from layer import training_step
from rich.console import Console
from rich.table import Table
from timing import measure
from torch import nn

from gossamer.kernels import cpu
from gossamer.kernels.panels import WIDEST, plan
from gossamer.kernels.simd import width_bytes
from gossamer.machine import describe_machine
from gossamer.nn import SparseLinear

SHAPES = ((784, 1024), (1024, 4096), (4096, 4096))


def kernels_of(layer: SparseLinear, *, batch: int) -> dict[str, Callable[[], object]]:
    rows, columns, column_pointers, row_indices, permutation = layer._index()
    transposed = (column_pointers, row_indices, permutation)
    values, x = layer.values.detach(), torch.randn(layer.in_features, batch)
    y = torch.empty(layer.out_features, batch)
    grad, grad_x, grad_values = torch.randn_like(y), torch.empty_like(x), torch.empty_like(values)
    bias = torch.zeros(layer.out_features)
    return {
        "forward": lambda: cpu.multiply(rows, columns, values, bias, x, y),
        "backward": lambda: cpu.backward(*transposed, values, x, grad, grad_x, grad_values),
    }


def limit_ms(layer: SparseLinear, name: str, *, batch: int) -> float:
    """Return the milliseconds below which a kernel cannot be."""
    found, backward = roofline.measure(), name == "backward"
    sizes = (layer.in_features, layer.out_features)
    gathered, rows = sizes[::-1] if backward else sizes
    cut = plan(
        rows=rows,
        gathered=gathered,
        active=layer.num_active,
        batch=batch,
        itemsize=4,
        team=torch.get_num_threads(),
        widest=WIDEST,
        rotates=backward,
    )
    level = roofline.level_of(cut.stripe * min(width_bytes(cut.width), 4 * batch))
    numbers = layer.num_active * batch
    operations = (4 if backward else 2) * numbers / (found.gflops * 1e6)
    return max(operations, 4 * numbers / (found.gigabytes[level] * 1e6))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", nargs="+", type=int, default=[128, 512])
    parser.add_argument("--sparsities", nargs="+", type=float, default=[0.9, 0.95, 0.99])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    console = Console(width=120)
    console.print(describe_machine())
    table = Table(title="kernels alone", title_justify="left")
    for header in (
        "layer",
        "batch",
        "sparsity",
        "forward",
        "GFLOP/s",
        "of the limit",
        "backward",
        "GFLOP/s",
        "of the limit",
    ):
        table.add_column(header, justify="right")
    generator = torch.Generator().manual_seed(0)
    for features, outputs in SHAPES:
        for batch in options.batches:
            for sparsity in options.sparsities:
                layer = SparseLinear(features, outputs, sparsity=sparsity, generator=generator)
                times = measure(kernels_of(layer, batch=batch), rounds=options.rounds, in_a_row=3)
                cells = [f"{features}x{outputs}", f"{batch}", f"{sparsity:g}"]
                for name, factor in (("forward", 2), ("backward", 4)):
                    taken = float(times[name])
                    share = limit_ms(layer, name, batch=batch) / taken
                    rate = 1e-6 * factor * layer.num_active * batch / taken
                    cells += [f"{taken:.3f} ms", f"{rate:.0f}", f"{100 * share:.0f} %"]
                table.add_row(*cells)
    console.print(table)
    sparse = SparseLinear(64, 64, sparsity=0.95, generator=generator)
    inputs, grad = torch.randn(64, 16).t(), torch.randn(64, 16).t()
    steps = {
        "sparse": training_step(sparse, inputs.clone().requires_grad_(), grad),
        "dense": training_step(nn.Linear(64, 64), inputs.contiguous().requires_grad_(), grad.contiguous()),
    }
    tiny = measure(steps, rounds=options.rounds, in_a_row=200)
    console.print(f"a step of 64 x 64: sparse {float(tiny['sparse']):.3f} ms, nn.Linear {float(tiny['dense']):.3f} ms")


if __name__ == "__main__":
    main()
