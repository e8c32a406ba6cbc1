"""Time one linear layer's training step, forward and both gradients: truly sparse against dense and every rival.

    python benchmarks/layer.py                                       the shapes, batches and sparsities of the README
    python benchmarks/layer.py --shapes 784x1024 --batches 128 --sparsities 0.95 --rounds 50

Each contender gets its input as its own kind of layer would hand it on: batch-major for the rivals, feature-major for
Gossamer; the row "batch-major" shows what the transposition costs where a dense layer stands before and behind. A
round times a few steps of each contender in a row; medians over the rounds.

`limit` is the least time that this machine could take, from `roofline.py` in the same run: the larger of operations
over the peak and bytes over the bandwidth of the level of memory that holds the batch's tile.

`pip install --no-build-isolation -c constraints.txt -e .[rivals]` brings sparselab and sparseprop.
"""

import argparse
import importlib.util
import os
from collections.abc import Callable

import roofline
import torch
from rich.console import Console
from rich.table import Table
from rivals import RIVALS
from timing import measure
from torch import Tensor, nn

from gossamer.kernels.panels import WIDEST, plan
from gossamer.kernels.simd import width_bytes
from gossamer.machine import describe_machine
from gossamer.nn import SparseLinear

_KEPT: list[dict[str, nn.Module]] = []


def training_step(layer: nn.Module, inputs: Tensor, output_grad: Tensor) -> Callable[[], None]:
    """Return forward and backward with the gradient of the output given; gradients are written anew each time."""
    leaves = [inputs, *layer.parameters()]

    def step() -> None:
        for leaf in leaves:
            leaf.grad = None
        layer(inputs).backward(output_grad)

    return step


def contenders(
    features: int, outputs: int, *, sparsity: float, batch: int, rivals: dict[str, Callable[[SparseLinear], nn.Module]]
) -> tuple[dict[str, Callable[[], None]], SparseLinear]:
    generator = torch.Generator().manual_seed(0)
    sparse = SparseLinear(features, outputs, sparsity=sparsity, generator=generator)
    inputs, grad = torch.randn(batch, features), torch.randn(batch, outputs)

    def made(layer: nn.Module, *, transposed: bool = False) -> Callable[[], None]:
        layout = (lambda tensor: tensor.t().contiguous().t()) if transposed else torch.clone
        return training_step(layer, layout(inputs).requires_grad_(), layout(grad))

    # Kept: sparselab remembers transposes by the address of a layer and would take that of one that is gone for ours.
    layers: dict[str, nn.Module] = {}
    _KEPT.append(layers)
    steps = {"dense": made(nn.Linear(features, outputs)), "gossamer": made(sparse, transposed=True)}
    steps["batch-major"] = made(sparse)
    for name, make in rivals.items():
        if importlib.util.find_spec(name) or (" " in name and name != "masked dense"):
            layers[name] = make(sparse)
            steps[name] = made(layers[name])
    return steps, sparse


def limit_ms(layer: SparseLinear, *, batch: int) -> float:
    """Return the milliseconds below which this machine cannot do forward and both gradients.

    Operations: 6 a weight and sample. Bytes, forward: a float32 of the input a weight and sample from the level that
    holds a stripe of the input's tile; backward: the same of the output's gradient, which serves both products. An
    index, a value, a place and a gradient for each weight and tile come from the third cache.
    """
    found = roofline.measure()
    operations = 6 * layer.num_active * batch / (found.gflops * 1e6)
    moved = 0.0
    sizes = (layer.in_features, layer.out_features)
    for gathered, rows, index_bytes, rotates in ((*sizes, 8, False), (*sizes[::-1], 16, True)):
        cut = plan(
            rows=rows,
            gathered=gathered,
            active=layer.num_active,
            batch=batch,
            itemsize=4,
            team=torch.get_num_threads(),
            widest=WIDEST,
            rotates=rotates,
        )
        tile_bytes = width_bytes(cut.width)
        level = roofline.level_of(cut.stripe * min(tile_bytes, 4 * batch))
        moved += 4 * layer.num_active * batch / (found.gigabytes[level] * 1e6)
        moved += index_bytes * layer.num_active * -(-4 * batch // tile_bytes) / (found.gigabytes["L3"] * 1e6)
    return max(operations, moved)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=["784x1024", "1024x4096"], help="inputs x outputs")
    parser.add_argument("--batches", nargs="+", type=int, default=[128, 256, 512])
    parser.add_argument("--sparsities", nargs="+", type=float, default=[0.8, 0.9, 0.95, 0.99])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--in-a-row", type=int, default=5, help="steps of one contender in a round")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--no-rivals", action="store_true", help="against the dense layer alone")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    console = Console(width=150)
    console.print(describe_machine(), f"load {os.getloadavg()[0]:.2f} at the start")
    table = Table(title="forward and both gradients, ms", title_justify="left")
    names = ["dense", *(name for name in RIVALS if name != "masked dense"), "batch-major", "gossamer"]
    for header in ("layer", "batch", "sparsity", *names, "over dense", "over best rival", "GFLOP/s", "of the limit"):
        table.add_column(header, justify="right")
    for shape in options.shapes:
        for batch in options.batches:
            for sparsity in options.sparsities:
                features, outputs = (int(size) for size in shape.split("x"))
                steps, layer = contenders(
                    features, outputs, sparsity=sparsity, batch=batch, rivals={} if options.no_rivals else RIVALS
                )
                results = measure(steps, rounds=options.rounds, in_a_row=options.in_a_row)
                times = {name: taken for name, taken in results.items() if isinstance(taken, float)}
                ours = times["gossamer"]
                best = min(
                    (taken for name, taken in times.items() if name in RIVALS and name != "masked dense"),
                    default=float("nan"),
                )
                table.add_row(
                    shape,
                    f"{batch}",
                    f"{sparsity:g}",
                    *(f"{times[name]:.2f}" if name in times else "-" for name in names),
                    f"{times['dense'] / ours:.1f}x",
                    f"{best / ours:.2f}x",
                    f"{6e-6 * layer.num_active * batch / ours:.0f}",
                    f"{100 * limit_ms(layer, batch=batch) / ours:.0f} %",
                )
    console.print(table)


if __name__ == "__main__":
    main()
