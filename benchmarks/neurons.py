"""Train a Truly Sparse network with and without importance pruning, and print what the removal of neurons saves.

    GOSSAMER_DATA=/path/to/data python benchmarks/neurons.py --threads 1
    GOSSAMER_DATA=/path/to/data python benchmarks/neurons.py --threads 1 --epochs 40 --seed 1

Fashion-MNIST, 784-1000-1000-1000-10 with All-ReLU 0.6, epsilon 20, SGD 0.01 with momentum 0.9, batches of 128, dropout
0.3, SET after each epoch. Contenders: no neuron goes; a fraction of the hidden neurons goes five times from 40 % of the
training on and their rows and columns stay, closed; the same neurons leave their tensors. After the training
`gs.neurons.remove_dead_` takes out of each network what is dead in it; the largest change of an output that this makes
over the test rows is printed. Times of a training step are medians over interleaved rounds of all networks, before and
after, in this run; the first row is the network at its start.
"""

import argparse
import copy
import os
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from timing import measure
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import gossamer as gs
from gossamer.budgets import er_epsilon
from gossamer.data import Dataset
from gossamer.machine import describe_machine
from gossamer.nn import SparseLinear

SIZES = [784, 1000, 1000, 1000, 10]
BATCH = 128
CONTENDERS: dict[str, dict[str, bool] | None] = {
    "no neuron goes": None,
    "neurons closed": {"compact": False},
    "neurons removed": {"compact": True},
}


def network(seed: int) -> nn.Sequential:
    """Return the network of the paper, truly sparse."""

    def budget(shapes: dict[str, tuple[int, ...]], *, sparsity: float) -> dict[str, int]:
        return er_epsilon(shapes, epsilon=20.0)

    generator = torch.Generator().manual_seed(seed)
    return gs.models.mlp(SIZES, sparsity=0.9, budget=budget, alpha=0.6, dropout=0.3, generator=generator)


def train(model: nn.Module, data: Dataset, *, options: argparse.Namespace, compact: bool | None) -> None:
    """Train by Truly Sparse; `compact` None: without importance pruning."""
    optimizer = sgd(model)
    epoch = -(-len(data.train_inputs) // BATCH)
    total = epoch * options.epochs
    sparsifier = gs.recipes.truly_sparse(
        model,
        optimizer,
        update_every=epoch,
        stop_step=total - epoch + 1,
        prune_start_step=max(1, total * 2 // 5),
        prune_every=max(1, total // 10),
        neuron_fraction=0.0 if compact is None else options.neuron_fraction,
        compact=bool(compact),
        generator=torch.Generator().manual_seed(options.seed),
    )
    torch.manual_seed(options.seed)
    order = torch.Generator().manual_seed(options.seed)
    for _ in range(options.epochs):
        for rows in gs.data.batches(len(data.train_inputs), batch_size=BATCH, generator=order):
            optimizer.zero_grad()
            cross_entropy(model(data.train_inputs[rows]), data.train_targets[rows]).backward()
            optimizer.step()
            sparsifier.step()
    sparsifier.finalize()


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=2e-4, fused=True)


def outputs_of(model: nn.Module, data: Dataset) -> Tensor:
    """Return the outputs for all test rows."""
    model.eval()
    with torch.no_grad():
        parts = [model(rows) for rows in data.test_inputs.split(1000)]
    model.train()
    return torch.cat(parts)


def make_step(model: nn.Module, data: Dataset) -> Callable[[], None]:
    # A copy: what is timed trains on.
    model = copy.deepcopy(model).train()
    optimizer = sgd(model)
    inputs, targets = data.train_inputs[:BATCH].clone(), data.train_targets[:BATCH].clone()

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(model(inputs), targets).backward()
        optimizer.step()

    return step


def describe(model: nn.Module) -> tuple[str, int]:
    """Return the sizes of the hidden layers, and the number of active weights."""
    linear = [layer for layer in model.modules() if isinstance(layer, (SparseLinear, nn.Linear))]
    active = sum(layer.num_active if isinstance(layer, SparseLinear) else layer.weight.numel() for layer in linear)
    return "-".join(str(layer.out_features) for layer in linear[:-1]), active


def run(data: Dataset, options: argparse.Namespace) -> tuple[Table, dict[str, float]]:
    models: dict[str, nn.Module] = {"at the start": network(options.seed)}
    outputs: dict[str, Tensor] = {}
    changes: dict[str, float] = {}
    for name, settings in CONTENDERS.items():
        model: nn.Module = network(options.seed)
        train(model, data, options=options, compact=settings["compact"] if settings else None)
        models[name], outputs[name] = model, outputs_of(model, data)
        small = copy.deepcopy(model)
        gs.neurons.remove_dead_(small)
        after = f"{name}, the dead out"
        models[after], outputs[after] = small, outputs_of(small, data)
        changes[name] = float((outputs[after] - outputs[name]).abs().max())
    steps = {name: make_step(model, data) for name, model in models.items()}
    # A step that failed has a text in place of its time.
    times = {name: float(taken) for name, taken in measure(steps, rounds=options.rounds, in_a_row=10).items()}
    table = Table(title=f"{options.epochs} epochs, seed {options.seed}", title_justify="left")
    for header in ("network", "hidden layers", "active weights", "step", "no neuron goes / this", "test accuracy"):
        table.add_column(header, justify="left" if header == "network" else "right")
    whole = times["no neuron goes"]
    for name, model in models.items():
        sizes, active = describe(model)
        taken = times[name]
        accuracy = float((outputs[name].argmax(1) == data.test_targets).double().mean()) if name in outputs else None
        cells = [f"{taken:.2f} ms", f"{whole / taken:.2f}x", "" if accuracy is None else f"{100 * accuracy:.2f} %"]
        table.add_row(name, sizes, f"{active:,}", *cells)
    return table, changes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--neuron-fraction", type=float, default=0.1, help="of the neurons left, at each of five steps")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--train-size", type=int, default=0, help="first rows to train on; default: all")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    console = Console()
    console.print(describe_machine(), f"load {os.getloadavg()[0]:.2f} at the start")
    data = gs.data.load("fashion-mnist", train_size=options.train_size or None)
    table, changes = run(data, options)
    console.print(table)
    for name, change in changes.items():
        console.print(f"{name}: removing the dead neurons changes no output by more than {change:.1e}")


if __name__ == "__main__":
    main()
