"""Tables for the terminal."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from gossamer.counts import sparsity_of


def size_text(num_bytes: float) -> str:
    """Write bytes for people.

    Example:
        >>> size_text(512), size_text(8_040_000)
        ('512 B', '8.04 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000 or unit == "GB":
            break
        num_bytes /= 1000
    return f"{num_bytes:.0f} B" if unit == "B" else f"{num_bytes:.3g} {unit}"


def results_table(results: Mapping[str, Sequence[Mapping[str, Any]]], *, title: str) -> Table:
    """Show what each method reached and what it cost, against dense where dense is there.

    Args:
        results: for each label the `end` fields of its runs, one a seed, with `num_weights` added.
        title: above the table.
    """
    table = Table(title=title, title_justify="left")
    for header in (
        "method",
        "sparsity",
        "accuracy",
        "best",
        "training",
        "step",
        "inference",
        "model file",
        "in training",
    ):
        table.add_column(header, justify="left" if header == "method" else "right", no_wrap=True)
    dense = results.get("dense")
    for label, runs in results.items():
        sparsity = sparsity_of(int(_mean(runs, "num_active")), runs[0]["num_weights"])
        table.add_row(
            label,
            f"{100 * sparsity:.1f} %",
            _percent(runs, "final_accuracy"),
            _percent(runs, "best_accuracy"),
            f"{_mean(runs, 'seconds'):.1f} s",
            f"{_mean(runs, 'step_ms'):.2f} ms{_ratio(runs, dense, 'step_ms')}",
            f"{_mean(runs, 'inference_ms'):.2f} ms{_ratio(runs, dense, 'inference_ms')}",
            f"{size_text(_mean(runs, 'model_bytes'))}{_ratio(runs, dense, 'model_bytes')}",
            f"{size_text(_mean(runs, 'training_bytes'))}{_ratio(runs, dense, 'training_bytes')}",
        )
    return table


def verdicts(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Say of each sparse method where it is not faster or not smaller than dense; empty where all are."""
    dense = results.get("dense")
    if dense is None:
        return []
    words = {"step_ms": "a training step is not faster", "inference_ms": "inference is not faster"}
    words |= {"model_bytes": "the file is not smaller", "training_bytes": "training does not hold less memory"}
    lines = []
    for label, runs in results.items():
        faults = [text for key, text in words.items() if label != "dense" and _mean(runs, key) >= _mean(dense, key)]
        if faults:
            lines.append(f"{label}: {', '.join(faults)} than dense.")
    return lines


def _mean(runs: Sequence[Mapping[str, Any]], key: str) -> float:
    return statistics.fmean(run[key] for run in runs)


def _percent(runs: Sequence[Mapping[str, Any]], key: str) -> str:
    values = [100 * run[key] for run in runs]
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{spread} %"


def _ratio(runs: Sequence[Mapping[str, Any]], dense: Sequence[Mapping[str, Any]] | None, key: str) -> str:
    if dense is None or runs is dense:
        return ""
    return f" ({_mean(runs, key) / _mean(dense, key):.2f}x)"
