"""Repeat the authors' published SET experiment: 2,000 images of Fashion-MNIST, 784-1000-1000-1000-10, epsilon 13.

    GOSSAMER_DATA=/path/to/data python benchmarks/set_tutorial.py --seeds 5

Published, best epoch of five seeds (result files of their IJCAI 2019 tutorial): dense 84.0, SET 83.7, static 81.6 %.
What their program does and this repeats: inputs in [0, 1]; the 2,000 and 1,000 rows that numpy's shuffle with seed 0
puts first; epsilon * (inputs + outputs) draws of a cell in every layer, a cell drawn twice counting once; weights and
grown weights from N(0, 0.1^2); ReLU, sigmoid outputs; an output error of (a - y) s(a) (1 - s(a)) with the sigmoid s
taken of the output a, not of its input; v <- 0.9 v - 0.05 g and w <- w + v - 0.0002 w; dropout 0.2 that does not scale
up in training but scales down in testing, and that gradients pass as if nothing was dropped; SET after every epoch but
the last. Differs: exact numbers of weights; dense starts by He's rule and trains with its own best rate (--dense-lr;
theirs: 0.001).
"""

import argparse
import math
import statistics
import time

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from gossamer import Sparsifier, criteria, data, growth, models, prunable, schedules
from gossamer.machine import describe_machine
from gossamer.nn import SparseLinear
from gossamer.updates import Exchange, by_sign
from gossamer.weights import Weight

SIZES = [784, 1000, 1000, 1000, 10]
PUBLISHED = {"dense": 84.0, "set": 83.7, "static": 81.6}
BATCH, MOMENTUM, DECAY, ZETA, EPSILON, DROPOUT = 40, 0.9, 2e-4, 0.3, 13, 0.2


def rows() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the authors' 2,000 training and 1,000 test rows: inputs, targets, inputs, targets."""
    full = data.load("fashion-mnist", standardize=False)
    shuffle = np.random.RandomState(0)
    train, test = np.arange(60_000), np.arange(10_000)
    shuffle.shuffle(train)
    shuffle.shuffle(test)
    first, second = torch.from_numpy(train[:2000]), torch.from_numpy(test[:1000])
    return full.train_inputs[first], full.train_targets[first], full.test_inputs[second], full.test_targets[second]


class PlainDropout(nn.Module):
    """Zero one value in five while training; the gradient passes all of them."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Drop values, in training only."""
        if not self.training:
            return inputs
        return inputs - (inputs * (torch.rand_like(inputs) < DROPOUT)).detach()


class ScaleInTesting(nn.Module):
    """Make up for dropout where nothing is dropped."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Scale values down, in testing only."""
        return inputs if self.training else inputs * (1 - DROPOUT)


def network(method: str, seed: int) -> nn.Sequential:
    """Return the network of a method as it starts."""
    generator = torch.Generator().manual_seed(seed)
    plain = models.mlp(SIZES, generator=generator, sparsity=0.0 if method == "dense" else 0.97, budget=drawn_cells)
    layers: list[nn.Module] = []
    for depth, layer in enumerate(module for module in plain if not isinstance(module, nn.ReLU)):
        layers += [nn.ReLU(), PlainDropout()] if depth else []
        layers += [layer, ScaleInTesting()] if depth else [layer]
        if isinstance(layer, SparseLinear):
            layer.values.data.normal_(0.0, 0.1, generator=generator)
    return nn.Sequential(*layers)


def drawn_cells(shapes: dict[str, tuple[int, ...]], *, sparsity: float) -> dict[str, int]:
    """Return how many cells EPSILON * (inputs + outputs) draws hit, on average; all of them for a dense network."""
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    if not sparsity:
        return sizes
    draws = {name: EPSILON * sum(shape) for name, shape in shapes.items()}
    return {name: round(size * (1 - math.exp(-draws[name] / size))) for name, size in sizes.items()}


def evolution(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, epochs: int, seed: int) -> Sparsifier:
    """SET as the tutorial's program does it."""

    def grow(weight: Weight, kept: Tensor, count: int, generator: torch.Generator) -> Tensor:
        return growth.random(kept, weight.closed_rows, weight.closed_columns, count=count, generator=generator)

    def small(weight: Weight, indices: Tensor, grown: Tensor, generator: torch.Generator) -> Tensor:
        return 0.1 * torch.randn(grown.numel(), generator=generator)

    exchange = Exchange(
        drop=criteria.magnitude,
        groups=by_sign,
        grow=grow,
        first_values=small,
        drop_fraction=schedules.constant(ZETA),
        update_every=steps,
        stop_step=steps * epochs,
    )
    generator = torch.Generator().manual_seed(1000 + seed)
    return Sparsifier(prunable(model), optimizer, updates=[exchange], generator=generator)


def train(method: str, seed: int, epochs: int, learning_rate: float) -> tuple[float, float, float]:
    """Return best and last test accuracy in per cent, and the seconds of training without evaluation."""
    inputs, targets, test_inputs, test_targets = rows()
    wanted = nn.functional.one_hot(targets, 10).float()
    torch.manual_seed(seed)
    model = network(method, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=MOMENTUM)
    sparsifier = evolution(model, optimizer, len(inputs) // BATCH, epochs, seed) if method == "set" else None
    order, best, last, seconds = torch.Generator().manual_seed(seed), 0.0, 0.0, 0.0
    for _ in range(epochs):
        start = time.perf_counter()
        model.train()
        for batch in data.batches(len(inputs), batch_size=BATCH, generator=order):
            outputs = model(inputs[batch])
            activation = outputs.sigmoid().detach()
            slope = activation.sigmoid() * (1 - activation.sigmoid())
            optimizer.zero_grad()
            ((activation - wanted[batch]) * slope * outputs).sum().div(len(batch)).backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(1 - DECAY)
            optimizer.step()
            if sparsifier:
                sparsifier.step()
        seconds += time.perf_counter() - start
        model.eval()
        with torch.no_grad():
            last = 100 * float((model(test_inputs).argmax(1) == test_targets).float().mean())
        best = max(best, last)
    return best, last, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="dense,set,static")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--dense-lr", type=float, default=0.05)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    table = Table(title=f"{options.epochs} epochs, {options.seeds} seeds", title_justify="left")
    for header in ("method", "lr", "best epoch", "last epoch", "published best", "training"):
        table.add_column(header, justify="left" if header == "method" else "right")
    console = Console()
    console.print(describe_machine())
    for method in options.methods.split(","):
        rate = options.dense_lr if method == "dense" else options.lr
        results = [train(method, seed, options.epochs, rate) for seed in range(options.seeds)]
        best, last, seconds = (list(column) for column in zip(*results, strict=True))
        spread = f" ± {statistics.stdev(best):.1f}" if len(best) > 1 else ""
        table.add_row(
            method,
            f"{rate:g}",
            f"{statistics.fmean(best):.1f}{spread}",
            f"{statistics.fmean(last):.1f}",
            f"{PUBLISHED[method]}",
            f"{statistics.fmean(seconds):.0f} s",
        )
        console.print(f"{method}: best {[round(value, 1) for value in best]}")
    console.print(table)


if __name__ == "__main__":
    main()
