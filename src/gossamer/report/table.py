"""The tables of the page: methods against dense, single runs, and the circumstances."""

from collections.abc import Sequence
from dataclasses import dataclass

from gossamer.report.records import Run
from gossamer.report.summary import Spread, Summary, dense_summary, ratio
from gossamer.report.words import MISSING, duration, number, percent, saves, size, times, with_deviation

COLUMNS = (
    "Method",
    "Sparsity",
    "Final accuracy",
    "Best accuracy",
    "Training time",
    "Step (ms)",
    "Inference (ms)",
    "Model file",
    "Training state",
    "Active weights",
)
_STATUS = {"killed": "killed or still running: its file has no end"}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A number as text, and below it what to think of it."""

    text: str
    remark: str = ""
    warns: bool = False


def method_rows(summaries: Sequence[Summary]) -> list[list[Cell]]:
    """Make one row a method, a cell for each of `COLUMNS`.

    Args:
        summaries: all methods of the page.

    Returns:
        The rows; a ratio of one or more to dense says "not faster" or "not smaller" in words.
    """
    dense = dense_summary(summaries)
    return [_method_row(item, dense) for item in summaries]


def _method_row(item: Summary, dense: Summary | None) -> list[Cell]:
    step = ratio(item.step_ms, dense.step_ms) if dense else None
    file = ratio(item.model_bytes, dense.model_bytes) if dense else None
    sparsity = None if item.density is None else 1 - item.density
    return [
        _name(item),
        Cell(text=MISSING if sparsity is None else percent(sparsity)),
        Cell(text=with_deviation(item.final_accuracy, 2) if item.final_accuracy else MISSING),
        Cell(text=with_deviation(item.best_accuracy, 2) if item.best_accuracy else MISSING),
        Cell(text=duration(item.seconds.mean) if item.seconds else MISSING),
        _against(_plain(item.step_ms), None if item.is_dense else step, "not faster than dense"),
        Cell(text=_plain(item.inference_ms)),
        _against(_bytes(item.model_bytes), None if item.is_dense else file, "not smaller than dense"),
        Cell(text=_bytes(item.training_bytes)),
        Cell(text=f"{item.num_active.mean:,.0f}" if item.num_active else MISSING),
    ]


def _name(item: Summary) -> Cell:
    """Return the label, how it is stored, and how many of its seeds count."""
    seeds = f"{len(item.runs)} seeds" if len(item.runs) > 1 else "1 seed"
    if not item.finished:
        seeds += ", not finished"
    elif len(item.runs) < item.num_runs:
        seeds += f", {item.num_runs - len(item.runs)} more not finished"
    remark = ", ".join(part for part in (item.storage, seeds) if part)
    return Cell(text=item.label, remark=remark, warns=len(item.runs) < item.num_runs or not item.finished)


def _plain(value: Spread | None) -> str:
    return number(value.mean) if value else MISSING


def _bytes(value: Spread | None) -> str:
    return size(value.mean) if value else MISSING


def _against(text: str, value: float | None, otherwise: str) -> Cell:
    """Return a cell with its ratio to dense below; one that saves nothing says so."""
    if value is None:
        return Cell(text=text)
    if saves(value):
        return Cell(text=text, remark=f"{times(value)} dense")
    return Cell(text=text, remark=f"{times(value)}, {otherwise}", warns=True)


def run_rows(runs: Sequence[Run]) -> list[list[str]]:
    """Make one row a run: method, seed, status, last step, final and best accuracy, note."""
    return [
        [
            run.start.label,
            MISSING if run.start.seed is None else str(run.start.seed),
            _STATUS.get(run.status, run.status),
            f"{run.last_step:,}" + (f" of {run.start.num_steps:,}" if run.start.num_steps else ""),
            MISSING if run.final_accuracy is None else percent(run.final_accuracy, 2),
            MISSING if run.best_accuracy is None else percent(run.best_accuracy, 2),
            run.end.note if run.end else "",
        ]
        for run in runs
    ]


def warnings(runs: Sequence[Run]) -> list[str]:
    """Say which runs did not finish, and where runs differ so that they cannot be compared.

    Args:
        runs: every run of the folder.

    Returns:
        Sentences; none where all is well.
    """
    found = []
    for run in runs:
        if run.status != "finished":
            seed = "" if run.start.seed is None else f" (seed {run.start.seed})"
            status = _STATUS.get(run.status, run.status)
            found.append(f"{run.start.label}{seed} did not finish; it got to step {run.last_step:,} ({status}).")
    for title, values in circumstances(runs):
        if len(values) > 1:
            found.append(f"The runs differ in {title.lower()}: {' | '.join(values)}. Compare them with care.")
    return found


def circumstances(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Return each circumstance with its values, more than one where the runs differ."""
    found: dict[str, list[str]] = {}
    for run in runs:
        for title, value in run.start.setup.items():
            values = found.setdefault(title, [])
            if value not in values:
                values.append(value)
    return list(found.items())
