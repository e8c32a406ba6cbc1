"""Time six pruned architectures as they are and as `gossamer.accelerate` makes them, in turns, in one run.

    python benchmarks/accelerate.py                        six architectures at three sparsities
    python benchmarks/accelerate.py --only mlp,resnet --sparsity 0.9 --batch 1

The weights are pruned by magnitude, every layer alike; models are random, since a time does not depend on what a model
has learned. After the choice the two models are timed anew: medians of single-threaded processor time by default, of
wall time with more threads.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from gossamer import models, pruning
from gossamer.acceleration import accelerate
from gossamer.machine import describe_machine

Case = tuple[nn.Module, Tensor]


class Attention(nn.Module):
    """A block of a transformer whose parts are linear layers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.mix, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, inputs: Tensor) -> Tensor:
        """Attend, then a network of one hidden layer, each beside a shortcut."""
        batch, length, width = inputs.shape
        parts = self.mix(self.before(inputs)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(batch, length, width)
        hidden = inputs + self.out(attended)
        result: Tensor = hidden + self.down(F.gelu(self.up(self.between(hidden))))
        return result


class Text(nn.Module):
    """The mean of embedded words, then linear layers."""

    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.layers = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, 20))

    def forward(self, words: Tensor) -> Tensor:
        """Classify rows of word numbers."""
        result: Tensor = self.layers(self.embedding(words).mean(1))
        return result


def mlp(batch: int) -> Case:
    sizes = [784, 1000, 1000, 1000, 10]
    return models.mlp(sizes, generator=torch.Generator().manual_seed(0)), torch.randn(batch, 784)


def lenet(batch: int) -> Case:
    layers = [nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2)]
    head = [nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10)]
    return nn.Sequential(*layers, *head), torch.randn(batch, 1, 28, 28)


def transformer(batch: int) -> Case:
    return nn.Sequential(Attention(512, 8), Attention(512, 8)), torch.randn(max(1, batch // 32), 32, 512)


def resnet(batch: int) -> Case:
    model = models.resnet(20, num_classes=10, generator=torch.Generator().manual_seed(0))
    return model, torch.randn(max(1, batch // 16), 3, 32, 32)


def text(batch: int) -> Case:
    return Text(5000, 256), torch.randint(5000, (batch, 30))


def autoencoder(batch: int) -> Case:
    sizes = [784, 512, 256, 64, 256, 512, 784]
    layers = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*layers[:-1]), torch.randn(batch, 784)


CASES: dict[str, Callable[[int], Case]] = {
    "mlp": mlp,
    "lenet": lenet,
    "transformer": transformer,
    "resnet": resnet,
    "text": text,
    "autoencoder": autoencoder,
}


def clock() -> float:
    return time.thread_time() if torch.get_num_threads() == 1 else time.perf_counter()


def medians(runs: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Milliseconds of each, taken in turns."""
    samples: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run()
    for number in range(rounds):
        for place in range(len(runs)) if number % 2 else reversed(range(len(runs))):
            runs[place]()
            start = clock()
            runs[place]()
            samples[place].append(1e3 * (clock() - start))
    return [statistics.median(each) for each in samples]


def measure(name: str, sparsity: float, batch: int, seconds: float, rounds: int) -> list[str]:
    """One row: the times of the model given and of the result, and what was chosen."""
    torch.manual_seed(0)
    model, example = CASES[name](batch)
    small = pruning.prune(model, sparsity=sparsity).eval()
    fast, table = accelerate(small, example, cache=False, seconds=seconds)
    with torch.no_grad():
        given, result = medians([lambda: small(example), lambda: fast(example)], rounds)
    chosen = [row.chosen for row in table.layers if row.chosen != row.given]
    counts = ", ".join(f"{chosen.count(each)} {each}" for each in sorted(set(chosen)))
    times = [f"{given:.3f}", f"{result:.3f}", f"{given / result:.2f}"]
    return [name, f"{sparsity:g}", *times, f"{table.bytes / table.given_bytes:.2f}", counts or "as given"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(CASES), help="architectures")
    parser.add_argument("--sparsity", default="0.5,0.9,0.95")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0, help="that accelerate takes")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    machine = describe_machine()
    table = Table("model", "sparsity", "given ms", "result ms", "times as fast", "bytes", "layers", box=None)
    for name in options.only.split(","):
        for sparsity in map(float, options.sparsity.split(",")):
            table.add_row(*measure(name, sparsity, options.batch, options.seconds, options.rounds))
    console = Console()
    console.print(
        f"batch {options.batch}; {machine['machine']}, {machine['threads']} threads, torch {machine['torch']}"
    )
    console.print(table)


if __name__ == "__main__":
    main()
