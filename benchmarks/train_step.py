"""Time one training step: truly sparse against dense and every rival that is installed, interleaved in one run.

    python benchmarks/train_step.py                                  the two networks of the README
    python benchmarks/train_step.py --sizes 784-512-10 --density 0.1 --batch 64 --optimizer adamw

"one by one" is Gossamer with torch's nn.Sequential in place of its own, which runs sparse layers as one function;
"in backward" is Gossamer with `nn.update_in_backward`.
Every contender has the same sizes and, the sparse ones, the same number of weights. A round times a few steps of each
in a row, as in training, after two that warm its caches; what slows the machine for a while slows all alike. The table
gives medians over the rounds and the ratio to dense within this run.

`pip install --no-build-isolation -c constraints.txt -e .[rivals]` brings sparselab and sparseprop.
"""

import argparse
import copy
import importlib.util
import os
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from rich.console import Console
from rich.table import Table
from rivals import RIVALS
from timing import measure
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gossamer import models
from gossamer.budgets import er_epsilon, uniform
from gossamer.machine import describe_machine
from gossamer.nn import SparseLinear, update_in_backward

DEFAULTS = (("784-1000-1000-1000-10", 20.0), ("784-4096-4096-4096-10", 20.0))


def contenders(sizes: list[int], *, density: float, epsilon: float) -> dict[str, nn.Module]:
    """Return the same network in each storage; a layer that the budget leaves dense is dense in all."""

    def budget(shapes: dict[str, tuple[int, ...]], *, sparsity: float) -> dict[str, int]:
        return er_epsilon(shapes, epsilon=epsilon) if epsilon else uniform(shapes, sparsity=sparsity)

    generator = torch.Generator().manual_seed(0)
    sparse = models.mlp(sizes, sparsity=1.0 - density, budget=budget, generator=generator)
    networks: dict[str, nn.Module] = {"dense": models.mlp(sizes, generator=generator), "gossamer": sparse}
    networks["in backward"] = copy.deepcopy(sparse)
    networks["one by one"] = nn.Sequential(*copy.deepcopy(sparse).children())
    for name, make in RIVALS.items():
        if importlib.util.find_spec(name) or " " in name:
            layers = (make(layer) if isinstance(layer, SparseLinear) else clone(layer) for layer in sparse)
            networks[name] = nn.Sequential(*layers)
    return networks


def clone(layer: nn.Module) -> nn.Module:
    # Not in place: the rivals' results are views, where that costs more than it saves.
    return nn.Linear(layer.in_features, layer.out_features) if isinstance(layer, nn.Linear) else nn.ReLU()


def make_step(
    model: nn.Module, inputs: Tensor, targets: Tensor, make: Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer]
) -> Callable[[], None]:
    optimizer = make(list(model.parameters()))

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(model(inputs), targets).backward()
        optimizer.step()

    return step


def run(text: str, *, density: float, epsilon: float, batch: int, rounds: int, in_a_row: int, optimizer: str) -> Table:
    sizes = [int(size) for size in text.split("-")]
    networks = contenders(sizes, density=density, epsilon=epsilon)
    inputs, targets = torch.randn(batch, sizes[0]), torch.randint(sizes[-1], (batch,))

    def make(parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        # One pass over the parameters where torch has it; not for a CSR tensor.
        fused = all(parameter.layout == torch.strided for parameter in parameters)
        if optimizer == "adamw":
            return torch.optim.AdamW(parameters, lr=1e-3, fused=fused)
        return torch.optim.SGD(parameters, lr=0.01, momentum=0.9, fused=fused)

    def make_and_fuse(parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        made = make(parameters)
        update_in_backward(made)
        return made

    results = measure(
        {
            name: make_step(model, inputs, targets, make_and_fuse if name == "in backward" else make)
            for name, model in networks.items()
        },
        rounds=rounds,
        in_a_row=in_a_row,
    )
    total = sum(before * after for before, after in pairwise(sizes))
    full = ("dense", "masked dense")
    active = {name: total if name in full else active_weights(networks["gossamer"]) for name in networks}
    title = f"{text}, {100 * active['gossamer'] / total:.2f} % of the weights, batch {batch}, {optimizer}"
    table = Table(title=title, title_justify="left")
    for header in ("network", "step", "dense / this", "this / gossamer", "GFLOP/s needed"):
        table.add_column(header, justify="left" if header == "network" else "right")
    dense, ours = results["dense"], results["gossamer"]
    for name, taken in results.items():
        if isinstance(taken, str) or isinstance(dense, str) or isinstance(ours, str):
            table.add_row(name, f"fails: {taken}", "", "", "")
            continue
        # Forward, input gradient and weight gradient: two operations a weight and sample each.
        rate = 6e-6 * active[name] * batch / taken
        table.add_row(name, f"{taken:.2f} ms", f"{dense / taken:.2f}x", f"{taken / ours:.2f}x", f"{rate:.0f}")
    return table


def active_weights(model: nn.Module) -> int:
    return sum(
        layer.num_active if isinstance(layer, SparseLinear) else layer.weight.numel()
        for layer in model.modules()
        if isinstance(layer, (SparseLinear, nn.Linear))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", help="features of input, hidden layers and output, such as 784-1000-10")
    parser.add_argument("--density", type=float, default=0.05, help="share of the weights in each layer")
    parser.add_argument("--epsilon", type=float, default=0.0, help="instead of --density: weights a neuron, as in SET")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--in-a-row", type=int, default=10, help="steps of one network in a round")
    parser.add_argument("--optimizer", choices=("sgd", "adamw"), default="sgd")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    console = Console()
    console.print(describe_machine(), f"load {os.getloadavg()[0]:.2f} at the start")
    cases = [(options.sizes, options.epsilon)] if options.sizes else DEFAULTS
    for sizes, epsilon in cases:
        console.print(
            run(
                sizes,
                density=options.density,
                epsilon=epsilon,
                batch=options.batch,
                rounds=options.rounds,
                in_a_row=options.in_a_row,
                optimizer=options.optimizer,
            )
        )


if __name__ == "__main__":
    main()
