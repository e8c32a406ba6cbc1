"""Time sparse convolutions against torch's dense ones and sparseprop's, interleaved in one run.

    python benchmarks/conv.py     three shapes of residual networks, 90 and 95 %, batch 1 and 32
    python benchmarks/conv.py --shapes 128x28 --sparsity 0.9 --batch 8 --kernel 1

A shape is CHANNELSxSIZE: as many channels in as out, square images, stride 1 and padding that keeps the size. A round
times each contender once, after a call that warms its caches; what slows the machine for a while slows all alike. The
table gives medians over the rounds, of the forward pass without autograd and of a forward and backward pass with all
gradients. `--cpu-time` takes the processor's time of one thread instead of the clock's: for a machine that others use.

sparseprop has two loops to choose from, and both are timed: the second, "sparseprop 2", runs along the columns of
the output.

`pip install --no-build-isolation -c constraints.txt -e .[rivals]` brings sparseprop.
"""

import argparse
import importlib.util
import os
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from gossamer.machine import describe_machine
from gossamer.nn import SparseConv2d

SHAPES = ("64x32", "128x28", "256x14")
QUICK = ("64x16",)


def contenders(channels: int, *, kernel: int, sparsity: float) -> dict[str, nn.Module]:
    """Return the same convolution in each storage."""
    generator = torch.Generator().manual_seed(0)
    sparse = SparseConv2d(channels, channels, kernel, sparsity=sparsity, padding=kernel // 2, generator=generator)
    layers: dict[str, nn.Module] = {"dense": sparse.to_dense(), "gossamer": sparse}
    if importlib.util.find_spec("sparseprop"):
        import sparseprop.modules

        for name, wide in (("sparseprop", False), ("sparseprop 2", True)):
            layers[name] = sparseprop.modules.SparseConv2d.from_dense(sparse.to_dense(), vectorizing_over_on=wide)
    return layers


def forward(layer: nn.Module, images: Tensor) -> Callable[[], None]:
    def call() -> None:
        with torch.no_grad():
            layer(images)

    return call


def training(layer: nn.Module, images: Tensor) -> Callable[[], None]:
    images = images.clone().requires_grad_()
    grad = torch.randn_like(layer(images))

    def call() -> None:
        layer.zero_grad()
        images.grad = None
        layer(images).backward(grad)

    return call


def measure(
    calls: dict[str, Callable[[], None]], *, seconds: float, clock: Callable[[], float]
) -> dict[str, float | str]:
    """Return the median milliseconds of each call over interleaved rounds, or what went wrong."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    failed: dict[str, str] = {}
    stop, rounds = time.perf_counter() + seconds, 0
    while rounds < 5 or (time.perf_counter() < stop and rounds < 200):
        rounds += 1
        for name, call in calls.items():
            if name in failed:
                continue
            try:
                call()
                start = clock()
                call()
                times[name].append(1e3 * (clock() - start))
            except (RuntimeError, NotImplementedError) as error:
                failed[name] = " ".join(str(error).split())[:60]
    return {name: failed.get(name) or statistics.median(taken[1:]) for name, taken in times.items()}


def run(
    shape: str, *, kernel: int, sparsities: list[float], batches: list[int], seconds: float, clock: Callable[[], float]
) -> Table:
    channels, size = (int(number) for number in shape.split("x"))
    title = f"{channels} channels, {size} x {size}, kernel {kernel} x {kernel}"
    table = Table(title=title, title_justify="left")
    for header in (
        "batch",
        "sparsity",
        "layer",
        "forward",
        "dense / this",
        "training",
        "dense / this",
        "GFLOP/s needed",
    ):
        table.add_column(header, justify="left" if header == "layer" else "right")
    for batch in batches:
        for sparsity in sparsities:
            layers = contenders(channels, kernel=kernel, sparsity=sparsity)
            images = torch.randn(batch, channels, size, size)
            results = [
                measure({name: make(layer, images) for name, layer in layers.items()}, seconds=seconds, clock=clock)
                for make in (forward, training)
            ]
            flops = 2e-6 * (1 - sparsity) * channels * channels * kernel * kernel * size * size * batch
            for name in layers:
                cells = [cell for taken in results for cell in _cells(taken, name)]
                mine = results[0][name]
                rate = flops * (1 / (1 - sparsity) if name == "dense" else 1) / mine if isinstance(mine, float) else 0.0
                table.add_row(
                    str(batch), f"{sparsity:g}", name, *cells, f"{rate:.0f}", end_section=name == [*layers][-1]
                )
    return table


def _cells(taken: dict[str, float | str], name: str) -> tuple[str, str]:
    mine, dense = taken[name], taken["dense"]
    if isinstance(mine, str) or isinstance(dense, str):
        return f"fails: {mine}", ""
    return f"{mine:.3f} ms", f"{dense / mine:.2f}x"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", help="channels and size of the image, such as 64x32")
    parser.add_argument("--sparsity", nargs="+", type=float, default=[0.9, 0.95])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--kernel", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each cell of the table")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--cpu-time", action="store_true", help="one thread, and its time on the processor")
    parser.add_argument("--quick", action="store_true", help="one small shape, a tenth of the time")
    options = parser.parse_args()
    if options.threads or options.cpu_time:
        torch.set_num_threads(1 if options.cpu_time else options.threads)
    console = Console(width=110)
    console.print(describe_machine(), f"load {os.getloadavg()[0]:.2f} at the start")
    if not importlib.util.find_spec("sparseprop"):
        console.print("sparseprop is not installed and left out")
    for shape in options.shapes or (QUICK if options.quick else SHAPES):
        table = run(
            shape,
            kernel=options.kernel,
            sparsities=options.sparsity,
            batches=options.batch,
            seconds=0.1 * options.seconds if options.quick else options.seconds,
            clock=time.thread_time if options.cpu_time else time.perf_counter,
        )
        console.print(table)


if __name__ == "__main__":
    main()
