"""Why accuracy falls after weights were exchanged before batch normalisation, and what brings it back.

    GOSSAMER_DATA=/path/to/data OMP_NUM_THREADS=1 python benchmarks/growth_statistics.py --sparsity 0.98 --method rigl

The training of growth.py's experiment cifar, on rows held back from training. A row is a moment: before and after an
exchange, and some steps later. Each is evaluated with the running statistics as they are; with those taken anew of the
filters alone whose variance is a hundred times the running one; with all anew (`gs.statistics.reestimate_`); and with
those of each test batch, as in training.
"""

import argparse
import copy
from collections.abc import Iterator
from itertools import islice

import torch
from growth_networks import Ready, load, make_ready
from growth_training import set_learning_rate, step
from growth_trials import Trial, cifar
from torch import Tensor, nn

import gossamer as gs
from gossamer.cli.tables import say, show_table
from gossamer.data import Dataset
from gossamer.training import evaluate

MOMENTS = (1, 2, 5, 10, 20, 40, 80)
BATCHES = 20


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def anew(model: nn.Module, dataset: Dataset, batch_size: int) -> nn.Module:
    """Return a copy whose running statistics are those of the first training batches."""
    fresh = copy.deepcopy(model)
    gs.statistics.reestimate_(fresh, dataset.train_inputs[: BATCHES * batch_size].split(batch_size))
    return fresh


def woken(model: nn.Module, fresh: nn.Module) -> list[Tensor]:
    """Return which filters of each layer vary a hundred times as much as the running statistics say."""
    pairs = zip(norms(model), norms(fresh), strict=True)
    return [norm.get_buffer("running_var") < 0.01 * other.get_buffer("running_var") for norm, other in pairs]


def partly_anew(model: nn.Module, fresh: nn.Module, chosen: list[Tensor]) -> nn.Module:
    """Return a copy with the statistics of some filters taken from `fresh`."""
    mixed = copy.deepcopy(model)
    for norm, other, filters in zip(norms(mixed), norms(fresh), chosen, strict=True):
        for name in ("running_mean", "running_var"):
            norm.get_buffer(name)[filters] = other.get_buffer(name)[filters]
    return mixed


def by_its_batch(model: nn.Module) -> nn.Module:
    """Return a copy that normalises by the statistics of the batch it evaluates."""
    own = copy.deepcopy(model)
    for norm in norms(own):
        norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None
    return own


def look(when: str, model: nn.Module, dataset: Dataset, batch_size: int) -> tuple[str, list[str]]:
    """Return a row: when, how many filters were woken, and the accuracies."""
    fresh = anew(model, dataset, batch_size)
    chosen = woken(model, fresh)
    ways = (model, partly_anew(model, fresh, chosen), fresh, by_its_batch(model))
    found = [f"{100 * evaluate(way, dataset)[1]:.1f}" for way in ways]
    return when, [str(sum(int(filters.sum()) for filters in chosen)), *found]


def moments(trial: Trial, dataset: Dataset, ready: Ready) -> Iterator[tuple[str, list[str]]]:
    """Train, and yield a row before and after each exchange."""
    last, number, size = -1, 0, trial.config.batch_size
    for epoch in range(trial.config.epochs):
        order = torch.Generator().manual_seed(trial.config.seed * 1_000_003 + epoch)
        for rows in gs.data.batches(len(dataset.train_inputs), batch_size=size, generator=order):
            set_learning_rate(trial, ready, number)
            before = copy.deepcopy(ready.model)
            changed = step(dataset, ready, rows)
            number += 1
            if changed:
                yield look("one step before", before, dataset, size)
                last = number
                yield look(f"exchange, step {number}", ready.model, dataset, size)
            elif last >= 0 and number - last in MOMENTS:
                yield look(f"{number - last} after", ready.model, dataset, size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="rigl", choices=("set", "rigl"))
    parser.add_argument("--sparsity", type=float, default=0.98)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=40, help="moments to print, from the first exchange on")
    options = parser.parse_args()
    planned = cifar(options.seed, [options.method])
    trial = next(one for one in planned if one.config.sparsity == options.sparsity)
    trial = Trial(**{**vars(trial), "validation": True})
    torch.manual_seed(options.seed)
    dataset = load(trial)
    found = list(islice(moments(trial, dataset, make_ready(trial, dataset)), options.rows))
    say(f"{trial.label} at {options.sparsity:g}, {trial.panel}; % of {len(dataset.test_targets):,} rows held back")
    names = ("woken", "running", "woken anew", "all anew", "batch's")
    columns = {name: [row[place] for _, row in found] for place, name in enumerate(names)}
    show_table("moment", [when for when, _ in found], columns)


if __name__ == "__main__":
    main()
