"""Time one topology update of a truly sparse layer: SET, RigL and GSE, with their parts; and RigL's peak memory.

    python benchmarks/update.py                                  1000 x 1000 to 16,384 x 16,384 on one thread
    python benchmarks/update.py --sizes 4096 --densities 0.05 --rounds 15
    python benchmarks/update.py --memory                         16,384 x 16,384, one weight in a thousand

Each round takes a training step and an update of every method, one after the other; medians over the rounds. `step`
is one training step at this batch, forward, backward and momentum, of a layer that no method changes. `drop`, `grow`
and `move` are the parts of the update: which weights go, which come, and the new topology with its transpose, values
and momentum. `share` is what updates take of the training time at the papers' intervals: an epoch of 60,000 rows for
SET, 100 steps for RigL, 1000 for GSE.

`dense product` is the gradient of the dense weight, grad.T @ inputs, as one product of torch into memory of its own;
`into place` is the same into memory that is there already. `search` is RigL's growth over the first: it multiplies
the same out tile by tile and picks the best.

With --memory a fresh process reports what one update adds to what training holds (Linux): at its peak, by the kernel's
count, all that growth returns included.
"""

import argparse
import ctypes
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from memory import peak_of, resident
from rich.console import Console
from rich.table import Table
from torch import Tensor

from gossamer import Sparsifier, counts, recipes, topology
from gossamer.cli.tables import size_text
from gossamer.growth import fan_in_uniform_of
from gossamer.machine import describe_machine
from gossamer.nn import SparseLinear

Times = dict[str, list[float]]
# Steps between two updates.
INTERVALS = {"SET": 60_000 // 128, "RigL": 100, "GSE": 1000}
STARTS: dict[str, Callable[..., Sparsifier]] = {"SET": recipes.set_, "RigL": recipes.rigl, "GSE": recipes.gse}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A layer, what it is fed with and what comes back."""

    layer: SparseLinear
    optimizer: torch.optim.Optimizer
    inputs: Tensor
    output_grad: Tensor
    times: Times = field(default_factory=lambda: defaultdict(list))

    def train_step(self) -> None:
        """Go forward and back, and let the optimizer step."""
        self.optimizer.zero_grad()
        self.layer(self.inputs).backward(self.output_grad)
        self.optimizer.step()

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add milliseconds to a list: of the thread where there is one, else of the clock."""
        clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
        start = clock()
        yield
        self.times[name].append(1e3 * (clock() - start))

    def median(self, name: str) -> float:
        """Return the median milliseconds; the first round, which compiles, is left out."""
        return statistics.median(self.times[name][1:])


def problem(size: int, density: float, batch: int) -> Problem:
    generator = torch.Generator().manual_seed(0)
    places = topology.erdos_renyi((size, size), counts.num_active(size**2, 1 - density), generator=generator)
    layer = SparseLinear.from_topology(places, fan_in_uniform_of(places.row_pointers, generator=generator))
    return Problem(
        layer=layer,
        optimizer=torch.optim.SGD(layer.parameters(), lr=1e-6, momentum=0.9),
        inputs=torch.randn(batch, size, generator=generator),
        output_grad=torch.randn(batch, size, generator=generator),
    )


def start(name: str, it: Problem) -> Sparsifier:
    """Start a method that updates after every step, its parts timed."""
    sparsifier = STARTS[name](
        it.layer, it.optimizer, update_every=1, stop_step=10**9, generator=torch.Generator().manual_seed(1)
    )
    (update,), (weight,) = sparsifier._updates, sparsifier.weights
    for owner, method, part in ((update, "_survivors", "drop"), (update, "grow", "grow"), (weight, "change_", "move")):
        # The update is frozen.
        object.__setattr__(owner, method, timed_call(it, getattr(owner, method), part))
    return sparsifier


def timed_call(it: Problem, function: Callable[..., object], name: str) -> Callable[..., object]:
    def call(*args: object) -> object:
        with it.timed(name):
            return function(*args)

    return call


def measure(size: int, density: float, *, batch: int, rounds: int) -> dict[str, Problem]:
    """Return the times of each method, and of training and dense products under "plain"."""
    every = {name: problem(size, density, batch) for name in ("plain", *STARTS)}
    sparsifiers = {name: start(name, every[name]) for name in STARTS}
    plain = every["plain"]
    place = torch.empty(size, size)
    for _ in range(rounds + 1):
        plain.train_step()
        with plain.timed("step"):
            plain.train_step()
        with plain.timed("dense product"):
            product = plain.output_grad.t() @ plain.inputs
        del product
        with plain.timed("into place"):
            torch.mm(plain.output_grad.t(), plain.inputs, out=place)
        for name, sparsifier in sparsifiers.items():
            every[name].train_step()
            with every[name].timed("update"):
                sparsifier.step()
    return every


def show_times(options: argparse.Namespace, console: Console) -> None:
    headers = ("density", "method", "step", "drop", "grow", "move", "update", "share")
    for size in options.sizes:
        title = f"one update of {size:,} x {size:,}, ms; batch {options.batch}, {options.threads} thread(s)"
        table = Table(title=title, title_justify="left")
        for header in (*headers, "dense product", "into place", "search over them"):
            table.add_column(header, justify="right")
        for density in options.densities:
            every = measure(size, density, batch=options.batch, rounds=options.rounds)
            step, *products = (every["plain"].median(name) for name in ("step", "dense product", "into place"))
            for name in STARTS:
                found = {part: every[name].median(part) for part in ("drop", "grow", "move", "update")}
                share = found["update"] / (found["update"] + INTERVALS[name] * step)
                cells = [f"{density:g}", name, f"{step:.2f}", *(f"{time:.2f}" for time in found.values())]
                cells.append(f"{100 * share:.2f} %")
                if name == "RigL":
                    cells += [f"{product:.2f}" for product in products]
                    cells.append(", ".join(f"{found['grow'] / product:.2f}x" for product in products))
                table.add_row(*cells)
        console.print(table)


def peak_of_update(size: int, density: float, *, batch: int, drop_fraction: float) -> tuple[int, int]:
    """Return the bytes that RigL's update adds at its peak to what training holds, and how many weights grew.

    What the layer keeps for the update, inputs and gradients of its outputs, is there before it and not counted.
    """
    # Compile and load everything, so that no code is counted.
    for warm_size, warm_density in ((300, 0.1), (size, 2 / size)):
        it = problem(warm_size, warm_density, batch)
        sparsifier = recipes.rigl(it.layer, it.optimizer, update_every=1, stop_step=9, generator=torch.Generator())
        it.train_step()
        sparsifier.step()
    it = problem(size, density, batch)
    sparsifier = recipes.rigl(
        it.layer,
        it.optimizer,
        update_every=2,
        stop_step=10**9,
        generator=torch.Generator(),
        drop_fraction=drop_fraction,
    )
    it.train_step()
    sparsifier.step()
    it.train_step()
    # Memory that was freed and not given back would hide what the update takes.
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    _, added = peak_of(sparsifier.step)
    return added, counts.num_dropped(it.layer.num_active, drop_fraction)


def show_memory(options: argparse.Namespace, console: Console) -> None:
    size, density = options.sizes[-1], options.densities[0]
    added, grown = peak_of_update(size, density, batch=options.batch, drop_fraction=options.drop_fraction)
    dense = 4 * size**2
    console.print(
        f"RigL on {size:,} x {size:,}, density {density:g}, batch {options.batch}, {grown:,} weights exchanged: "
        f"the update adds {size_text(added)} at its peak, {100 * added / dense:.2f} % of the dense gradient "
        f"({size_text(dense)}); the process holds {size_text(resident('VmRSS'))}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, default=None, help="inputs and outputs of the layer")
    parser.add_argument("--densities", nargs="+", type=float, default=None)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", action="store_true", help="the peak memory of one update of RigL instead of times")
    parser.add_argument("--drop-fraction", type=float, default=0.3, help="with --memory")
    options = parser.parse_args()
    options.sizes = options.sizes or ([16_384] if options.memory else [1000, 4096, 16_384])
    options.densities = options.densities or ([0.001] if options.memory else [0.01, 0.05, 0.1])
    torch.set_num_threads(options.threads)
    console = Console(width=150)
    console.print(describe_machine())
    (show_memory if options.memory else show_times)(options, console)


if __name__ == "__main__":
    main()
