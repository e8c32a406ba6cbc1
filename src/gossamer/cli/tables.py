"""Tables for the terminal, whatever its width."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gossamer.counts import sparsity_of

Runs = Sequence[Mapping[str, Any]]

# Between two columns of a table.
_GAP = 3


def size_text(num_bytes: float) -> str:
    """Write bytes for people.

    Example:
        >>> size_text(999), size_text(1000), size_text(8_040_000)
        ('999 B', '1 kB', '8.04 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000 or unit == "GB":
            break
        num_bytes /= 1000
    return f"{num_bytes:.0f} B" if unit == "B" else f"{num_bytes:.3g} {unit}"


def counted(number: int, noun: str) -> str:
    """Write a number of things.

    Example:
        >>> counted(1, "seed"), counted(3, "seed")
        ('1 seed', '3 seeds')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def say(text: str) -> None:
    """Print plain text: nothing is wrapped, and no path is taken for a colour."""
    Console().print(text, soft_wrap=True, markup=False, highlight=False)


def show_results(results: Mapping[str, Runs], *, title: str) -> None:
    """Print what each method reached and what it cost, against dense where dense is there.

    Args:
        results: for each label the `end` fields of its runs, one a seed.
        title: above the table.
    """
    say(title)
    show_table("method", list(results), _columns(results))
    if "dense" in results and len(results) > 1:
        say("0.5x: half of what dense takes")
    for line in empty_layers(results):
        say(line)


def show_table(
    header: str, labels: Sequence[str], columns: Mapping[str, Sequence[str]], *, words: Sequence[str] = ()
) -> None:
    """Print a table, or several below each other where the terminal is too narrow: no number is ever cut.

    Args:
        header: of the first column, which each of the tables repeats.
        labels: its cells.
        columns: the cells of the others by their headers.
        words: headers of columns that hold text: it may be wrapped.
    """
    console = Console()
    label_width = min(max(map(len, [header, *labels])), console.width // 2)
    groups: list[dict[str, Sequence[str]]] = []
    room = 0
    for name, cells in columns.items():
        needed = _GAP + max(map(len, [name, *cells]))
        if needed > room:
            groups.append({})
            room = console.width - label_width
        groups[-1][name] = cells
        room -= needed
    for number, group in enumerate(groups):
        if number:
            console.print()
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
        table.add_column(header, max_width=label_width, overflow="fold")
        for name in group:
            table.add_column(name, justify="left" if name in words else "right", no_wrap=name not in words)
        for label, *cells in zip(labels, *group.values(), strict=True):
            table.add_row(Text(label), *map(Text, cells))
        console.print(table)


def _columns(results: Mapping[str, Runs]) -> dict[str, list[str]]:
    """The cells of each column, a method each."""
    dense = results.get("dense")
    every = list(results.values())
    sparsities = [sparsity_of(int(_mean(runs, "num_active")), runs[0]["num_weights"]) for runs in every]
    return {
        "sparsity": [f"{100 * sparsity:.1f} %" for sparsity in sparsities],
        "accuracy": [_percent(runs, "final_accuracy") for runs in every],
        "best": [_percent(runs, "best_accuracy") for runs in every],
        "training": [f"{_mean(runs, 'seconds'):.1f} s" for runs in every],
        "step": [f"{_mean(runs, 'step_ms'):.2f} ms{_ratio(runs, dense, 'step_ms')}" for runs in every],
        "inference": [f"{_mean(runs, 'inference_ms'):.2f} ms{_ratio(runs, dense, 'inference_ms')}" for runs in every],
        "model file": [size_text(_mean(runs, "model_bytes")) + _ratio(runs, dense, "model_bytes") for runs in every],
        "in training": [
            size_text(_mean(runs, "training_bytes")) + _ratio(runs, dense, "training_bytes") for runs in every
        ],
    }


def empty_layers(results: Mapping[str, Runs]) -> list[str]:
    """Say of which methods a layer has no weight left, so that no more than biases come through it."""
    lines = []
    for label, runs in results.items():
        # Runs of older versions do not tell.
        names = sorted({name for run in runs for name in run.get("empty_layers", [])})
        if names:
            which = f"layer {names[0]} has" if len(names) == 1 else f"layers {', '.join(names)} have"
            lines.append(f"{label}: {which} no weight left, so nothing of the inputs comes through.")
    return lines


def verdicts(results: Mapping[str, Runs]) -> list[str]:
    """Say of each other method where it is not faster or not smaller than dense, or lacks no weight in the end."""
    dense = results.get("dense")
    if dense is None:
        return []
    words = {"step_ms": "a training step is not faster", "inference_ms": "inference is not faster"}
    words |= {"model_bytes": "the file is not smaller", "training_bytes": "training does not hold less memory"}
    lines = []
    for label, runs in results.items():
        if label == "dense":
            continue
        if _mean(runs, "num_active") >= runs[0]["num_weights"]:
            lines.append(f"{label}: it ended dense, no weight is missing.")
        # As the table shows it: 0.998 of dense is 1.00 and saves nothing.
        faults = [text for key, text in words.items() if round(_mean(runs, key) / _mean(dense, key), 2) >= 1]
        if faults:
            lines.append(f"{label}: {', '.join(faults)} than dense.")
    return lines


def _mean(runs: Runs, key: str) -> float:
    return statistics.fmean(run[key] for run in runs)


def _percent(runs: Runs, key: str) -> str:
    values = [100 * run[key] for run in runs]
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{spread} %"


def _ratio(runs: Runs, dense: Runs | None, key: str) -> str:
    if dense is None or runs is dense:
        return ""
    return f" {_mean(runs, key) / _mean(dense, key):.2f}x"
