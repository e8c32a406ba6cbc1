"""Time forward and backward of recurrent layers: truly sparse against torch's dense one and a masked one.

    python benchmarks/recurrent.py                             LSTM and GRU, hidden 512 and 1024, sparsity 0.9 and 0.95
    python benchmarks/recurrent.py --kinds lstm --hidden 512 --steps 64 --batch 16
    python benchmarks/recurrent.py --packed                    sequences of all lengths up to --steps, packed

Every contender has the same sizes and, where they have zeros, the same ones. The masked layer multiplies each weight
with its mask in every training step, which is what pruning by masks costs. "gossamer, by steps" is the same layer in
plain autograd, one call of each weight a step: the way that compilers and other devices take. Rounds are interleaved;
the table gives medians and the ratio to dense within this run.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.rnn import pack_padded_sequence

from gossamer.kernels import unroll
from gossamer.machine import describe_machine
from gossamer.nn import SparseGRU, SparseLSTM

Step = Callable[[], None]
SPARSE: dict[str, type[Any]] = {"lstm": SparseLSTM, "gru": SparseGRU}


def make_step(
    forward: Callable[[Tensor], Tensor], parameters: list[nn.Parameter], inputs: Tensor, grad: Tensor
) -> Step:
    def step() -> None:
        for parameter in parameters:
            parameter.grad = None
        forward(inputs).backward(grad)

    return step


def masked(dense: nn.Module, masks: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    weights = {name: part * masks[name] if name in masks else part for name, part in dense.named_parameters()}
    outputs: Tensor = functional_call(dense, weights, (inputs,))[0]
    return outputs


def by_steps(layer: nn.Module, inputs: Tensor) -> Tensor:
    plain = unroll.is_plain
    unroll.is_plain = lambda *tensors: False
    try:
        outputs: Tensor = layer(inputs)[0]
    finally:
        unroll.is_plain = plain
    return outputs


def packed(layer: Callable[..., Any], inputs: Tensor, lengths: Tensor) -> Tensor:
    outputs: Tensor = layer(pack_padded_sequence(inputs, lengths, enforce_sorted=False))[0].data
    return outputs


def contenders(
    kind: str, hidden: int, *, features: int, steps: int, batch: int, sparsity: float, in_packs: bool
) -> dict[str, Step]:
    generator = torch.Generator().manual_seed(0)
    sparse = SPARSE[kind](features, hidden, sparsity=sparsity, generator=generator)
    dense = sparse.to_dense()
    masks = {name: (part.detach() != 0).float() for name, part in dense.named_parameters() if "weight" in name}
    inputs = torch.randn(steps, batch, features, generator=generator).requires_grad_()
    grad = torch.randn(steps, batch, hidden, generator=generator)
    if in_packs:
        lengths = torch.linspace(1, steps, batch).round().long()
        grad = torch.randn(int(lengths.sum()), hidden, generator=generator)
        both = {"dense": dense, "gossamer": sparse}
        return {
            name: make_step(partial(packed, layer, lengths=lengths), list(layer.parameters()), inputs, grad)
            for name, layer in both.items()
        }
    forwards: dict[str, tuple[nn.Module, Callable[[Tensor], Tensor]]] = {
        "dense": (dense, lambda part: dense(part)[0]),
        "masked dense": (dense, lambda part: masked(dense, masks, part)),
        "gossamer": (sparse, lambda part: sparse(part)[0]),
        "gossamer, by steps": (sparse, lambda part: by_steps(sparse, part)),
    }
    return {
        name: make_step(forward, list(module.parameters()), inputs, grad)
        for name, (module, forward) in forwards.items()
    }


def measure(steps: dict[str, Step], *, rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """Return the median milliseconds of each step over interleaved rounds."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, step in steps.items():
            step()
            start = clock()
            step()
            times[name].append(1000 * (clock() - start))
    return {name: statistics.median(taken[1:]) for name, taken in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=sorted(SPARSE), default=["lstm", "gru"])
    parser.add_argument("--hidden", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--sparsity", type=float, nargs="+", default=[0.9, 0.95])
    parser.add_argument("--input", type=int, default=512)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--packed", action="store_true", help="packed sequences, against the dense layer alone")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--cpu-time", action="store_true", help="of one thread, for a machine that others use")
    options = parser.parse_args()
    if options.threads or options.cpu_time:
        torch.set_num_threads(options.threads or 1)
    clock = time.thread_time if options.cpu_time else time.perf_counter
    console = Console()
    console.print(describe_machine(), f"load {os.getloadavg()[0]:.2f} at the start")
    title = f"input {options.input}, {options.steps} steps, batch {options.batch}, forward + backward"
    result = Table(title=title, title_justify="left")
    for header in ("layer", "sparsity", "contender", "step", "dense / this"):
        result.add_column(header, justify="right" if header in ("step", "dense / this") else "left")
    for kind in options.kinds:
        for hidden in options.hidden:
            for sparsity in options.sparsity:
                steps = contenders(
                    kind,
                    hidden,
                    features=options.input,
                    steps=options.steps,
                    batch=options.batch,
                    sparsity=sparsity,
                    in_packs=options.packed,
                )
                times = measure(steps, rounds=options.rounds, clock=clock)
                for name, taken in times.items():
                    ratio = f"{times['dense'] / taken:.2f}x"
                    result.add_row(f"{kind} {hidden}", str(sparsity), name, f"{taken:.1f} ms", ratio)
    console.print(result)


if __name__ == "__main__":
    main()
