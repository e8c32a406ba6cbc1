"""What one run wrote down, as records: its start, evaluations, updates, layers and end."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

Degrees = tuple[tuple[int, int], ...]
"""Pairs (degree, how many neurons have it)."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """The method and the circumstances of a run; None where the file does not say."""

    method: str
    label: str
    seed: int | None
    storage: str
    num_steps: int | None
    num_weights: int | None
    setup: Mapping[str, str]
    """Data, model, batch size, threads, machine and versions, as text in reading order."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One measurement of the test accuracy, in [0, 1], and the training seconds spent until then."""

    step: int
    test_accuracy: float | None
    seconds: float | None
    num_active: int | None


@dataclass(frozen=True, kw_only=True)
class Update:
    """One change of topology: how many weights went and how many came."""

    step: int
    num_dropped: int
    num_grown: int


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One sparse weight at one moment; degrees are empty where the run did not record them."""

    name: str
    shape: tuple[int, ...]
    num_active: int
    in_degrees: Degrees
    out_degrees: Degrees

    @property
    def density(self) -> float | None:
        """Active weights as a fraction of all; None where the shape is not known."""
        num_weights = math.prod(self.shape) if self.shape else 0
        return self.num_active / num_weights if num_weights else None


@dataclass(frozen=True, kw_only=True)
class End:
    """What a run measured of itself at its end; None where the file does not say."""

    status: str
    best_accuracy: float | None
    final_accuracy: float | None
    seconds: float | None
    step_ms: float | None
    inference_ms: float | None
    model_bytes: float | None
    training_bytes: float | None
    num_active: int | None
    where: Mapping[str, float]
    note: str


@dataclass(frozen=True, kw_only=True)
class Run:
    """One metrics.jsonl. A run that was killed has no `end`; what can be told without it is told."""

    name: str
    start: Start
    evaluations: tuple[Evaluation, ...]
    updates: tuple[Update, ...]
    before: tuple[Layer, ...]
    after: tuple[Layer, ...]
    end: End | None

    @property
    def status(self) -> str:
        """One of finished, stopped, failed, or killed where the file has no end."""
        return self.end.status if self.end else "killed"

    @property
    def last_step(self) -> int:
        """The last step of which the file tells anything."""
        steps = [item.step for item in self.evaluations] + [item.step for item in self.updates]
        return max(steps, default=0)

    @property
    def final_accuracy(self) -> float | None:
        """Test accuracy at the end, or else at the last evaluation."""
        if self.end and self.end.final_accuracy is not None:
            return self.end.final_accuracy
        return next(reversed(self._accuracies()), None)

    @property
    def best_accuracy(self) -> float | None:
        """Highest test accuracy seen."""
        if self.end and self.end.best_accuracy is not None:
            return self.end.best_accuracy
        return max(self._accuracies(), default=None)

    @property
    def num_active(self) -> int | None:
        """Active weights at the end, or else at the last evaluation that tells."""
        if self.end and self.end.num_active is not None:
            return self.end.num_active
        counts = [item.num_active for item in self.evaluations if item.num_active is not None]
        return next(reversed(counts), None)

    @property
    def seconds(self) -> float | None:
        """Training time, evaluations excluded."""
        if self.end and self.end.seconds is not None:
            return self.end.seconds
        times = [item.seconds for item in self.evaluations if item.seconds is not None]
        return next(reversed(times), None)

    def _accuracies(self) -> list[float]:
        return [item.test_accuracy for item in self.evaluations if item.test_accuracy is not None]
