"""Time products and training products on a CUDA device: Gossamer's kernels, dense cuBLAS, torch's CSR and BSR.

    python benchmarks/gpu.py                                                all shapes, some minutes
    python benchmarks/gpu.py --shapes 4096x4096 --batches 512 --sparsities 0.95 --dtypes float32

A training product is y = W x and, for a gradient of y, those of x and of W; torch's BSR has no gradient of W.
Every y is first compared with the dense product in float64. A round calls each contender once, with cold caches: a
large buffer is overwritten before, which also gives the processor time to launch what follows. The table gives medians
of the rounds by CUDA events; "moved" counts operands and results once each, against the bandwidth of a copy measured
in the same run; "gathered" counts the rows of the batch that active weights ask for, most of it from the L2 cache.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gossamer import topology
from gossamer.kernels import gpu_block_ops, gpu_ops
from gossamer.kernels.operands import Index

COLD_BYTES = 1 << 29
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


@dataclass(frozen=True, kw_only=True)
class Weight:
    """A sparse weight of scattered entries, or of blocks where `values` has three dimensions."""

    dense: Tensor
    values: Tensor
    index: Index


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Two products of one weight; `gathered_numbers` is what its forward product reads of the batch."""

    forward: Callable[[], Tensor]
    train: Callable[[], object]
    moved_numbers: int
    gathered_numbers: int


def draw(shape: tuple[int, int], sparsity: float, block: int, dtype: torch.dtype, device: str) -> Weight:
    """Draw a weight whose blocks are dense and whose active blocks lie anywhere; block 1 is a single entry."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = shape[0] // block, shape[1] // block
    places = topology.erdos_renyi((rows, columns), round((1 - sparsity) * rows * columns), generator=generator)
    blocks = torch.randn(places.num_active, block, block, generator=generator).to(dtype)
    cut = torch.zeros(rows, columns, block, block, dtype=dtype)
    cut[topology.to_mask(places)] = blocks
    dense = cut.transpose(1, 2).reshape(shape).to(device)
    index = (places.row_pointers, places.column_indices, *topology.transpose(places))
    pointers, indices, *others = (part.to(device) for part in index)
    values = (blocks if block > 1 else blocks.flatten()).to(device)
    return Weight(dense=dense, values=values, index=(pointers, indices, others[0], others[1], others[2]))


def contenders(scattered: Weight, blocks: Weight, x: Tensor, grad: Tensor) -> dict[str, Contender]:
    """Return what is measured by name; `blocks` has as many weights as `scattered`."""
    batch_numbers = x.numel() + grad.numel()
    dense = scattered.dense
    made = {
        "dense": Contender(
            forward=lambda: dense @ x,
            train=lambda: (dense @ x, dense.t() @ grad, grad @ x.t()),
            moved_numbers=dense.numel() + batch_numbers,
            gathered_numbers=0,
        )
    }
    for name, weight, forward, train in (
        ("gossamer", scattered, gpu_ops.sparse_linear, gpu_ops.backward),
        ("gossamer blocks", blocks, gpu_block_ops.block_linear, gpu_block_ops.block_backward),
    ):
        made[name] = ours(weight, x, grad, forward, train)
    for name, weight in (("torch CSR", scattered), ("torch BSR", blocks)):
        made[name] = of_torch(weight, x, grad, made["gossamer" if name == "torch CSR" else "gossamer blocks"])
    return made


def ours(
    weight: Weight, x: Tensor, grad: Tensor, forward: Callable[..., Tensor], backward: Callable[..., object]
) -> Contender:
    values, index = weight.values, weight.index
    columns = 1 if values.dim() == 1 else values.shape[2]
    active = values.numel() if values.dim() == 1 else values.shape[0]
    return Contender(
        forward=lambda: forward(x, values, None, *index),
        train=lambda: (forward(x, values, None, *index), backward(grad, x, values, *index)),
        moved_numbers=values.numel() + x.numel() + grad.numel(),
        gathered_numbers=active * columns * x.shape[1],
    )


def of_torch(weight: Weight, x: Tensor, grad: Tensor, same: Contender) -> Contender:
    """Its sparse tensors: both products, and for CSR the gradient of the values, which BSR does not offer."""
    make = torch.sparse_csr_tensor if weight.values.dim() == 1 else torch.sparse_bsr_tensor
    pointers, indices, column_pointers, row_indices, permutation = weight.index
    shape, values = weight.dense.shape, weight.values
    sparse = make(pointers, indices, values, shape)
    flipped = values[permutation] if values.dim() == 1 else values[permutation].transpose(1, 2).contiguous()
    transposed = make(column_pointers, row_indices, flipped, shape[::-1])

    def train() -> object:
        products = sparse @ x, transposed @ grad
        if values.dim() == 3:
            return products
        return *products, torch.sparse.sampled_addmm(sparse, grad, x.t(), beta=0.0)

    return Contender(
        forward=lambda: sparse @ x,
        train=train,
        moved_numbers=same.moved_numbers,
        gathered_numbers=same.gathered_numbers,
    )


def check(made: dict[str, Contender], scattered: Weight, blocks: Weight, x: Tensor) -> dict[str, str]:
    """Return whose forward product is wrong or raises, and why."""
    failed = {}
    for name, contender in made.items():
        weight = blocks if name in ("gossamer blocks", "torch BSR") else scattered
        expected = weight.dense.double() @ x.double()
        if text := fault(contender.forward):
            failed[name] = text
            continue
        difference = float((contender.forward().double() - expected).norm() / expected.norm())
        if not difference <= TOLERANCE[x.dtype]:
            failed[name] = f"wrong by {difference:.1e}"
    return failed


def fault(step: Callable[[], object]) -> str:
    try:
        step()
    except (RuntimeError, NotImplementedError, ValueError) as error:
        return " ".join(str(error).split())[:60] or type(error).__name__
    return ""


def measure(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median milliseconds of each step over interleaved rounds, caches cold."""
    buffer = torch.empty(COLD_BYTES, dtype=torch.uint8, device="cuda")
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        marks = []
        for name, step in steps.items():
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            buffer.zero_()
            start.record()
            step()
            stop.record()
            marks.append((name, start, stop))
        torch.cuda.synchronize()
        for name, start, stop in marks:
            times[name].append(start.elapsed_time(stop))
    return {name: statistics.median(taken) for name, taken in times.items()}


def copy_gigabytes() -> float:
    """Return the bandwidth of a large copy in GB/s, reads and writes counted."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2e-6 * source.numel() / measure({"copy": lambda: target.copy_(source)}, 20)["copy"]


def run(
    shape: tuple[int, int], batch: int, sparsity: float, dtype: torch.dtype, *, block: int, rounds: int, peak: float
) -> Table:
    scattered, blocks = (draw(shape, sparsity, size, dtype, "cuda") for size in (1, block))
    x, grad = (torch.randn(size, batch, device="cuda").to(dtype) for size in (shape[1], shape[0]))
    made = contenders(scattered, blocks, x, grad)
    failed = check(made, scattered, blocks, x)
    live = {name: contender for name, contender in made.items() if name not in failed}
    trains = {name: contender.train for name, contender in live.items() if not fault(contender.train)}
    forward = measure({name: contender.forward for name, contender in live.items()}, rounds)
    train = measure(trains, rounds)
    title = f"{shape[0]} x {shape[1]}, batch {batch}, sparsity {sparsity}, blocks of {block}, {dtype}"
    table = Table(title=title, title_justify="left")
    for header in (
        "contender",
        "forward",
        "dense / this",
        "training",
        "dense / this",
        "moved",
        "of a copy",
        "gathered",
    ):
        table.add_column(header, justify="left" if header == "contender" else "right")
    for name, contender in made.items():
        if name in failed:
            table.add_row(name, f"fails: {failed[name]}")
            continue
        rate = 1e-6 * x.itemsize / forward[name]
        moved = rate * contender.moved_numbers
        table.add_row(
            name,
            f"{1e3 * forward[name]:.0f} us",
            f"{forward['dense'] / forward[name]:.2f}x",
            f"{1e3 * train[name]:.0f} us" if name in train else "fails",
            f"{train['dense'] / train[name]:.2f}x" if name in train else "",
            f"{moved:.0f} GB/s",
            f"{100 * moved / peak:.0f} %",
            f"{rate * contender.gathered_numbers:.0f} GB/s",
        )
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=["1024x4096", "4096x4096"], help="outputs x inputs")
    parser.add_argument("--batches", nargs="+", type=int, default=[128, 512, 2048])
    parser.add_argument("--sparsities", nargs="+", type=float, default=[0.9, 0.95, 0.99])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--block", type=int, default=32, help="rows and columns of a block: 16, 32 or 64")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--tf32", action="store_true", help="let dense and block products of float32 use TF32")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("benchmarks/gpu.py needs a CUDA device, and torch sees none here", file=sys.stderr)
        return 2
    if options.tf32:
        torch.set_float32_matmul_precision("high")
        TOLERANCE[torch.float32] = 2e-3
    console, peak = Console(width=130), copy_gigabytes()
    console.print(torch.cuda.get_device_name(), f"torch {torch.__version__}, a copy moves {peak:.0f} GB/s")
    for dtype in options.dtypes:
        for text in options.shapes:
            outputs, inputs = (int(size) for size in text.split("x"))
            for sparsity in options.sparsities:
                for batch in options.batches:
                    settings = {"block": options.block, "rounds": options.rounds}
                    table = run((outputs, inputs), batch, sparsity, getattr(torch, dtype), **settings, peak=peak)
                    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
