"""Why accuracy falls after weights were exchanged before batch normalisation, and what brings it back.

    GOSSAMER_DATA=/path/to/data OMP_NUM_THREADS=1 python benchmarks/growth_statistics.py --sparsity 0.98 --method rigl

The training of growth.py's experiment cifar, on rows held back from training. A row is a moment: before and
after an exchange, and some steps later. Each is evaluated with the running statistics as they are; with those anew of
the filters that had no input before the exchange and have one now; with all anew (`gs.statistics.reestimate_`); and
with those of each test batch, as in training.
"""

import argparse
import copy
from collections.abc import Iterator

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
BATCHES = 40


def live_filters(ready: Ready) -> list[Tensor]:
    """Return which outputs of each convolution have an input, in the order of the layers."""
    weights = ready.sparsifier.weights if ready.sparsifier else []
    shapes = [torch.zeros(weight.shape, dtype=torch.bool) for weight in weights if len(weight.shape) == 4]
    for shape, weight in zip(shapes, weights, strict=False):
        shape.view(-1)[weight.indices()] = True
    return [shape.flatten(1).any(1) for shape in shapes]


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def anew(model: nn.Module, dataset: Dataset, batch_size: int) -> nn.Module:
    """Return a copy whose running statistics are those of the first training batches."""
    fresh = copy.deepcopy(model)
    gs.statistics.reestimate_(fresh, dataset.train_inputs[: BATCHES * batch_size].split(batch_size))
    return fresh


def partly_anew(model: nn.Module, fresh: nn.Module, chosen: list[Tensor]) -> nn.Module:
    """Return a copy with the statistics of some filters taken from `fresh`."""
    mixed = copy.deepcopy(model)
    for norm, other, filters in zip(norms(mixed), norms(fresh), chosen, strict=True):
        for own, theirs in zip(norm.buffers(), other.buffers(), strict=True):
            if own.dim():
                own[filters] = theirs[filters]
    return mixed


def by_its_batch(model: nn.Module) -> nn.Module:
    """Return a copy that normalises by the statistics of the batch it evaluates."""
    own = copy.deepcopy(model)
    for norm in norms(own):
        norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None
    return own


def accuracies(ready: Ready, dataset: Dataset, trial: Trial, revived: list[Tensor]) -> list[float]:
    fresh = anew(ready.model, dataset, trial.config.batch_size)
    ways = (ready.model, partly_anew(ready.model, fresh, revived), fresh, by_its_batch(ready.model))
    return [evaluate(model, dataset)[1] for model in ways]


def moments(trial: Trial, dataset: Dataset, ready: Ready) -> Iterator[tuple[str, str, list[float]]]:
    """Train, and yield what was reached before and after each exchange, and how many filters came to life in it."""
    revived = [torch.zeros_like(live) for live in live_filters(ready)]
    last, number = -1, 0
    for epoch in range(trial.config.epochs):
        order = torch.Generator().manual_seed(trial.config.seed * 1_000_003 + epoch)
        for rows in gs.data.batches(len(dataset.train_inputs), batch_size=trial.config.batch_size, generator=order):
            set_learning_rate(trial, ready, number)
            live, before = live_filters(ready), copy.deepcopy(ready.model)
            changed = step(dataset, ready, rows)
            number += 1
            if changed:
                yield "one step before", "", accuracies(ready._replace(model=before), dataset, trial, revived)
                revived = [now & ~was for now, was in zip(live_filters(ready), live, strict=True)]
                last = number
            if last >= 0 and (changed or number - last in MOMENTS):
                count = str(sum(int(filters.sum()) for filters in revived)) if changed else ""
                when = f"exchange, step {number}" if changed else f"{number - last} steps after"
                yield when, count, accuracies(ready, dataset, trial, revived)


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
    found = [
        row for row, _ in zip(moments(trial, dataset, make_ready(trial, dataset)), range(options.rows), strict=False)
    ]
    say(f"{trial.label} at {options.sparsity:g}, {trial.panel}; % of {len(dataset.test_targets):,} rows held back")
    names = ("running", "revived anew", "all anew", "of the batch")
    columns = {"revived": [count for _, count, _ in found]}
    columns |= {name: [f"{100 * row[place]:.1f}" for _, _, row in found] for place, name in enumerate(names)}
    show_table("moment", [when for when, _, _ in found], columns)


if __name__ == "__main__":
    main()
