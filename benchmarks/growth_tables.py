"""What growth.py prints: mean and spread over the seeds, and which claims hold."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from criteria_report import Found, cell, panel, show_accuracies, show_order
from growth_trials import DENSE_FASHION_RATE, FASHION_RATE, Trial
from line_chart import Panel

from gossamer.cli.tables import say, show_table

Result = Mapping[str, Any]
Group = list[tuple[Trial, Result]]

CLAIMS = (("RigL", "SET"), ("RigL", "static"), ("SET", "static"))
# Where the y axis of the plot begins.
LOW = {"lenet": 0.9, "fashion": 0.85, "cifar": 0.3}


def groups(results: Iterable[tuple[Trial, Result]]) -> list[Group]:
    """Put together what differs in method, sparsity and seed alone."""
    found: dict[Trial, Group] = {}
    for trial, result in results:
        config = replace(trial.config, method="any", sparsity=0.0, seed=0, update_every=0)
        if trial.experiment == "fashion" and config.learning_rate == DENSE_FASHION_RATE:
            config = replace(config, learning_rate=FASHION_RATE)
        key = replace(trial, config=config, label="", network="", scaled_by="")
        found.setdefault(key, []).append((trial, result))
    return list(found.values())


def show(group: Group) -> None:
    """Print the table of one panel, and below it which claims hold."""
    first = group[0][0]
    config = first.config
    rows = "rows held back from the training set" if first.validation else "test rows"
    settings = f"{config.epochs} epochs, batches of {config.batch_size}, learning rate {config.learning_rate:g}"
    decay = " falling to 0" if config.decay == "cosine" else ""
    title = f"{first.panel}: {settings}{decay}; {group[0][1]['num_tests']:,} {rows}, after the last step"
    tables = {"all_relu": _curves, "packs": _packs, "itop": _explored, "neurons": _neurons}
    if first.experiment in tables:
        tables[first.experiment](group, title)
    else:
        _by_sparsity(group, title)


def chart(group: Group) -> Panel | None:
    """Return the curves of a panel of several sparsities, or None."""
    found = _found(group)
    if len({sparsity for _, sparsity in found if sparsity}) < 2 or not found.get(("dense", 0.0)):
        return None
    first = group[0][0]
    return panel(found, title=first.panel, whole="dense", low=LOW.get(first.experiment, 0.0))


def _found(group: Group) -> Found:
    found: Found = {}
    for trial, result in group:
        found.setdefault((trial.label, trial.config.sparsity), {})[trial.config.seed] = result["accuracy"]
    return found


def _by_sparsity(group: Group, title: str) -> None:
    found = _found(group)
    show_accuracies(found, title=title, header="method", whole="dense", digits=2)
    for sparsity in sorted({trial.config.sparsity for trial, _ in group if trial.config.sparsity}):
        kept = {result["num_active"] for trial, result in group if trial.config.sparsity == sparsity}
        say(f"weights at {sparsity:g}: {', '.join(f'{number:,}' for number in sorted(kept))} of {_size(group):,}")
    show_order(found, title=title, num_images=group[0][1]["num_tests"], claimed=CLAIMS, digits=2)


def _rows(group: Group) -> dict[str, Group]:
    """The runs of each label, in the order in which they came first."""
    rows: dict[str, Group] = {}
    for trial, result in group:
        rows.setdefault(trial.label, []).append((trial, result))
    return rows


def _curves(group: Group, title: str) -> None:
    rows = _rows(group)
    epochs = sorted({int(epoch) for _, result in group for epoch in result["curve"]})
    columns = {
        f"after {epoch}": [
            cell({trial.config.seed: result["curve"][str(epoch)] for trial, result in runs}, digits=2)
            for runs in rows.values()
        ]
        for epoch in epochs
    }
    _print(title, rows, columns)


def _packs(group: Group, title: str) -> None:
    rows = _rows(group)
    columns = {
        "accuracy": _accuracies(rows),
        "weights": _means(rows, "num_active"),
        "of": _means(rows, "num_weights"),
        "step": _milliseconds(rows, "last_step_ms"),
    }
    _print(title, rows, columns)


def _explored(group: Group, title: str) -> None:
    rows = _rows(group)
    shares = [
        cell({trial.config.seed: result["explored"] for trial, result in runs}, digits=1) for runs in rows.values()
    ]
    _print(title, rows, {"accuracy": _accuracies(rows), "weights ever active": shares})


def _neurons(group: Group, title: str) -> None:
    rows = _rows(group)
    columns = {
        "accuracy": _accuracies(rows),
        "hidden neurons": _means(rows, "neurons"),
        "weights": _means(rows, "num_active"),
        "step, first epoch": _milliseconds(rows, "first_step_ms"),
        "step, last epoch": _milliseconds(rows, "last_step_ms"),
    }
    _print(title, rows, columns)


def _print(title: str, rows: Mapping[str, Group], columns: Mapping[str, Sequence[str]]) -> None:
    seeds = max(len(runs) for runs in rows.values())
    say(f"\n{title}; % correct, {seeds} seeds; a row of fewer seeds says so")
    labels = [f"{label} ({len(runs)})" if len(runs) < seeds else label for label, runs in rows.items()]
    show_table("network", labels, columns)


def _accuracies(rows: Mapping[str, Group]) -> list[str]:
    return [cell({trial.config.seed: result["accuracy"] for trial, result in runs}, digits=2) for runs in rows.values()]


def _means(rows: Mapping[str, Group], key: str) -> list[str]:
    return [f"{statistics.fmean(result[key] for _, result in runs):,.0f}" for runs in rows.values()]


def _milliseconds(rows: Mapping[str, Group], key: str) -> list[str]:
    return [f"{statistics.median(result[key] for _, result in runs):.2f} ms" for runs in rows.values()]


def _size(group: Group) -> int:
    size: int = group[0][1]["num_weights"]
    return size
