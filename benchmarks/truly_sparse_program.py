"""Time Gossamer against the reference program of Truly Sparse Neural Networks at Scale, in one run.

    GOSSAMER_DATA=/path/to/data python benchmarks/truly_sparse_program.py --passes 3
    GOSSAMER_DATA=/path/to/data python benchmarks/truly_sparse_program.py --extreme 65536-50000-50000-2 --passes 0

The rival is made again from a description (benchmarks/truly_sparse_rival.py); beside it stand the times recorded with
the authors' own program on another machine (2 virtual cores of an AMD EPYC Zen 3, 1 thread). Both train
784-1000-1000-1000-10 on Fashion-MNIST: epsilon 20, batch 128, dropout 0.3, All-ReLU 0.6, momentum 0.9, learning rate
0.01, decay 0.0002 a step, SET after each pass but the last. The accuracy is that on the test rows.
"""

import argparse
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import truly_sparse_rival as rival
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn.functional import cross_entropy

from gossamer import Sparsifier, budgets, data, models, recipes
from gossamer.machine import describe_machine

BATCH, RATE = 128, 0.01
RECORDED_PASS = {"784-1000-1000-1000-10": (23.5, 0.048, 0.575), "784-5000-5000-5000-10": (88.0, 0.178, 0.99)}
RECORDED_EXTREME = {
    "65536-50000-50000-2": (33.0, 5.0, 10.0),
    "65536-500000-500000-2": (268.0, 53.0, 81.0),
}


class Times(NamedTuple):
    """Seconds to make a network, of a pass over the data, of a step and of an evolution; and accuracy in per cent."""

    made: float
    a_pass: float
    step: float
    evolution: float
    accuracy: float


def clock() -> float:
    """Seconds: of this thread where there is but one, so that other programs on the machine count little."""
    return time.thread_time() if torch.get_num_threads() == 1 else time.perf_counter()


def timed(stage: Callable[[], object]) -> float:
    start = clock()
    stage()
    return clock() - start


def ours(
    sizes: list[int], epsilon: float, evolve_every: int
) -> tuple[nn.Sequential, torch.optim.Optimizer, Sparsifier]:
    """Make Gossamer's network, with what trains and evolves it."""
    generator = torch.Generator().manual_seed(0)
    kept = budgets.er_epsilon({str(i): (sizes[i + 1], sizes[i]) for i in range(len(sizes) - 1)}, epsilon=epsilon)
    model = models.mlp(
        sizes, sparsity=0.5, budget=lambda *_, **__: kept, dropout=rival.DROPOUT, alpha=0.6, generator=generator
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=rival.MOMENTUM, fused=True)
    sparsifier = recipes.truly_sparse(
        model,
        optimizer,
        update_every=evolve_every,
        stop_step=10**9,
        prune_start_step=10**9 - 1,
        neuron_fraction=0.0,
        drop_fraction=rival.DROP_FRACTION,
        generator=generator,
    )
    return model, optimizer, sparsifier


def our_step(model: nn.Module, optimizer: torch.optim.Optimizer, inputs: torch.Tensor, targets: torch.Tensor) -> None:
    optimizer.zero_grad()
    cross_entropy(model(inputs), targets).backward()
    with torch.no_grad():
        torch._foreach_mul_(optimizer.param_groups[0]["params"], 1.0 - rival.DECAY)
    optimizer.step()


def train_ours(sizes: list[int], epsilon: float, passes: int, num_rows: int) -> Times:
    """Train Gossamer's network for some passes."""
    full = data.load("fashion-mnist")
    inputs, targets = full.train_inputs[:num_rows], full.train_targets[:num_rows]
    num_steps = len(inputs) // BATCH
    # Compiled and loaded before it is timed.
    extreme_ours(sizes, epsilon, BATCH)
    start = clock()
    model, optimizer, sparsifier = ours(sizes, epsilon, num_steps)
    made, order = clock() - start, torch.Generator().manual_seed(0)
    steps = evolutions = 0.0
    for number in range(passes):
        rows = torch.randperm(len(inputs), generator=order)
        for batch in rows[: num_steps * BATCH].view(num_steps, BATCH):
            start = clock()
            our_step(model, optimizer, inputs[batch], targets[batch])
            between = clock()
            if number < passes - 1:
                sparsifier.step()
            steps, evolutions = steps + between - start, evolutions + clock() - between
    model.eval()
    with torch.no_grad():
        right = (model(full.test_inputs).argmax(1) == full.test_targets).float().mean()
    return _times(made, steps, evolutions, passes, num_steps, float(right))


def train_rival(sizes: list[int], epsilon: float, passes: int, num_rows: int) -> Times:
    """Train the rival's network for as many."""
    full = data.load("fashion-mnist")
    inputs = full.train_inputs[:num_rows].double().numpy()
    wanted = np.eye(sizes[-1])[full.train_targets[:num_rows].numpy()]
    num_steps, rng = len(inputs) // BATCH, np.random.default_rng(0)
    start = clock()
    layers = rival.make(sizes, epsilon, rng, by_draws=False)
    made = clock() - start
    # Compiled before it is timed.
    rival.step(layers, inputs[:1], wanted[:1], RATE, 0.6, rng)
    steps = evolutions = 0.0
    for number in range(passes):
        order = rng.permutation(len(inputs))
        for batch in order[: num_steps * BATCH].reshape(num_steps, BATCH):
            start = clock()
            layers = rival.step(layers, inputs[batch], wanted[batch], RATE, 0.6, rng)
            steps += clock() - start
        start = clock()
        if number < passes - 1:
            layers = rival.evolve(layers, rng)
        evolutions += clock() - start
    outputs = rival.forward(layers, full.test_inputs.double().numpy(), 0.6, None)[0][-1]
    right = (outputs.argmax(1) == full.test_targets.numpy()).mean()
    return _times(made, steps, evolutions, passes, num_steps, float(right))


def _times(made: float, steps: float, evolutions: float, passes: int, num_steps: int, right: float) -> Times:
    a_pass = (steps + evolutions) / passes
    return Times(made, a_pass, steps / passes / num_steps, evolutions / max(1, passes - 1), 100 * right)


def extreme_ours(sizes: list[int], epsilon: float, batch: int) -> Times:
    """Make, step (after one that is not timed) and evolve Gossamer's network on artificial data."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(batch, sizes[0], generator=generator)
    targets = torch.randint(sizes[-1], (batch,), generator=generator)
    start = clock()
    model, optimizer, sparsifier = ours(sizes, epsilon, 1)
    made = clock() - start
    our_step(model, optimizer, inputs, targets)
    step = timed(lambda: our_step(model, optimizer, inputs, targets))
    return Times(made, 0.0, step, timed(sparsifier.step), 0.0)


def extreme_rival(sizes: list[int], epsilon: float, batch: int) -> Times:
    """Make, step and evolve the rival's network."""
    rng = np.random.default_rng(0)
    # Compiled before it is timed, as ours is.
    small = rival.make([20, 20, 2], 2.0, rng, by_draws=True)
    rival.step(small, rng.standard_normal((2, 20)), np.eye(2), RATE, 0.6, rng)
    inputs, wanted = rng.standard_normal((batch, sizes[0])), np.eye(sizes[-1])[rng.integers(sizes[-1], size=batch)]
    start = clock()
    layers = rival.make(sizes, epsilon, rng, by_draws=True)
    made = clock() - start
    step = timed(lambda: rival.step(layers, inputs, wanted, RATE, 0.6, rng))
    return Times(made, 0.0, step, timed(lambda: rival.evolve(layers, rng)), 0.0)


def table_of(title: str, rows: dict[str, Times], recorded: tuple[float, ...] | None, names: tuple[str, ...]) -> Table:
    """Return the rows and how many times faster than each Gossamer is."""
    table = Table(title=title, title_justify="left")
    for header in ("", *names):
        table.add_column(header.replace("_", " "), justify="right" if header else "left")
    for name, times in rows.items():
        digits = [f"{value:.1f} %" if kind == "accuracy" else f"{value:.4g} s" for kind, value in _of(times, names)]
        table.add_row(name, *digits)
    mine = dict(_of(rows["gossamer"], names))
    if "rival, made again" in rows:
        other = _of(rows["rival, made again"], names)
        table.add_row(
            "times faster", *("" if kind == "accuracy" else f"{value / mine[kind]:.1f}" for kind, value in other)
        )
    if recorded:
        table.add_row("rival, recorded elsewhere", *(f"{value:.4g} s" for value in recorded))
        table.add_row(
            "times faster", *(f"{value / mine[kind]:.1f}" for kind, value in zip(names, recorded, strict=False))
        )
    return table


def _of(times: Times, names: tuple[str, ...]) -> list[tuple[str, float]]:
    return [(name, float(getattr(times, name))) for name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="784-1000-1000-1000-10")
    parser.add_argument("--epsilon", type=float, default=20.0)
    parser.add_argument("--passes", type=int, default=3, help="over Fashion-MNIST; 0: none")
    parser.add_argument("--rows", type=int, default=60_000, help="training rows used")
    parser.add_argument("--extreme", help="sizes of a network on artificial data, such as 65536-50000-50000-2")
    parser.add_argument("--extreme-epsilon", type=float, default=10.0)
    parser.add_argument("--extreme-batch", type=int, default=BATCH)
    parser.add_argument("--without-rival", action="store_true", help="of the extreme network: Gossamer alone")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    console = Console(width=120)
    console.print(describe_machine())
    if options.passes:
        sizes = [int(size) for size in options.sizes.split("-")]
        given = (sizes, options.epsilon, options.passes, options.rows)
        rows = {"gossamer": train_ours(*given), "rival, made again": train_rival(*given)}
        names = ("a_pass", "step", "evolution", "made", "accuracy")
        recorded = RECORDED_PASS.get(options.sizes) if options.rows == 60_000 else None
        console.print(
            table_of(f"{options.sizes}, {options.rows:,} rows, {options.passes} passes", rows, recorded, names)
        )
    if options.extreme:
        extreme = ([int(size) for size in options.extreme.split("-")], options.extreme_epsilon, options.extreme_batch)
        # Compiled and loaded before it is timed.
        extreme_ours([500, 40_000, 2], 1.0, options.extreme_batch)
        rows = {"gossamer": extreme_ours(*extreme)}
        if not options.without_rival:
            rows["rival, made again"] = extreme_rival(*extreme)
        stages = ("made", "step", "evolution")
        title = f"{options.extreme}, epsilon {options.extreme_epsilon:g}, batch {options.extreme_batch}"
        console.print(table_of(title, rows, RECORDED_EXTREME.get(options.extreme), stages))


if __name__ == "__main__":
    main()
