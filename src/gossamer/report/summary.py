"""Put the runs of one method together: means and deviations over seeds, ratios to the dense network."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gossamer.report.records import Run, Update


class Spread(NamedTuple):
    """A mean over seeds and its sample standard deviation, None for a single seed."""

    mean: float
    deviation: float | None


class Point(NamedTuple):
    """The runs of one method at one step that all of them evaluated."""

    step: int
    seconds: float | None
    accuracy: Spread


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One method over its seeds. `runs` holds the finished runs, or all of them where none finished."""

    method: str
    label: str
    storage: str
    runs: tuple[Run, ...]
    num_runs: int
    num_weights: float | None
    num_active: Spread | None
    final_accuracy: Spread | None
    best_accuracy: Spread | None
    seconds: Spread | None
    step_ms: Spread | None
    inference_ms: Spread | None
    model_bytes: Spread | None
    training_bytes: Spread | None

    @property
    def finished(self) -> bool:
        """Whether the numbers come from finished runs."""
        return all(run.status == "finished" for run in self.runs)

    @property
    def is_dense(self) -> bool:
        """Whether this is the dense network that the others are measured against."""
        return self.method == "dense"

    @property
    def density(self) -> float | None:
        """Active weights as a fraction of the weights of the dense network."""
        if self.num_active is None or not self.num_weights:
            return None
        return self.num_active.mean / self.num_weights


def summarise(runs: Iterable[Run]) -> list[Summary]:
    """Summarise the runs method by method.

    Args:
        runs: runs of any methods and seeds.

    Returns:
        One summary a method: the dense network first, then by name.

    Example:
        >>> summarise([])
        []
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.start.method, []).append(run)
    order = sorted(groups, key=lambda method: (method != "dense", method))
    return [_summary(sorted(groups[method], key=lambda run: run.start.seed or 0)) for method in order]


def _summary(every: list[Run]) -> Summary:
    runs = tuple(run for run in every if run.status == "finished") or tuple(every)
    start = runs[0].start
    num_weights = spread(run.start.num_weights for run in runs)
    return Summary(
        method=start.method,
        label=start.label,
        storage=start.storage,
        runs=runs,
        num_runs=len(every),
        num_weights=num_weights.mean if num_weights else None,
        num_active=spread(run.num_active for run in runs),
        final_accuracy=spread(run.final_accuracy for run in runs),
        best_accuracy=spread(run.best_accuracy for run in runs),
        seconds=spread(run.seconds for run in runs),
        step_ms=spread(run.end.step_ms for run in runs if run.end),
        inference_ms=spread(run.end.inference_ms for run in runs if run.end),
        model_bytes=spread(run.end.model_bytes for run in runs if run.end),
        training_bytes=spread(run.end.training_bytes for run in runs if run.end),
    )


def spread(values: Iterable[float | None]) -> Spread | None:
    """Return mean and sample standard deviation of the values that are there.

    Args:
        values: numbers, or None where a run does not tell.

    Returns:
        The spread; None without any value.

    Example:
        >>> spread([1.0, None, 3.0])
        Spread(mean=2.0, deviation=1.4142135623730951)
        >>> spread([2.0])
        Spread(mean=2.0, deviation=None)
    """
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Spread(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None)


def ratio(ours: Spread | None, dense: Spread | None) -> float | None:
    """Return how many times `dense` the value is; None where either is unknown or dense is zero."""
    if ours is None or dense is None or dense.mean == 0:
        return None
    return ours.mean / dense.mean


def dense_summary(summaries: Iterable[Summary]) -> Summary | None:
    """Return the dense network among the summaries."""
    return next((summary for summary in summaries if summary.is_dense), None)


def is_sparse(summary: Summary) -> bool:
    """Whether some layer of the method misses weights, before or after training."""
    densities = [layer.density for run in summary.runs for layer in (*run.before, *run.after)]
    return any(density is not None and density < 1 for density in densities)


def curve(runs: Sequence[Run]) -> list[Point]:
    """Align the evaluations of several runs.

    Args:
        runs: runs of one method.

    Returns:
        One point a step at which every run was evaluated and had an accuracy.
    """
    by_run = [{item.step: item for item in run.evaluations} for run in runs]
    points = []
    for step in _common(by_run):
        found = [items[step] for items in by_run]
        accuracies = [item.test_accuracy for item in found if item.test_accuracy is not None]
        accuracy = spread(accuracies)
        if accuracy is not None and len(accuracies) == len(found):
            seconds = spread(item.seconds for item in found)
            points.append(Point(step, seconds.mean if seconds else None, accuracy))
    return points


def updates(runs: Sequence[Run]) -> list[tuple[int, float, float]]:
    """Align the topology updates of several runs.

    Args:
        runs: runs of one method.

    Returns:
        Triples (step, weights dropped, weights grown), means over the runs, at the steps all runs share.
    """
    by_run = [{item.step: item for item in run.updates} for run in runs]

    def mean(step: int, count: Callable[[Update], int]) -> float:
        return statistics.fmean(count(items[step]) for items in by_run)

    return [
        (step, mean(step, lambda item: item.num_dropped), mean(step, lambda item: item.num_grown))
        for step in _common(by_run)
    ]


def _common(by_run: Sequence[Mapping[int, object]]) -> list[int]:
    if not by_run:
        return []
    return sorted(set(by_run[0]).intersection(*by_run[1:]))
