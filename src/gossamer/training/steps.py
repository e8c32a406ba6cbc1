"""The steps of a training run: batches, loss, optimizer, sparsifier; stopped and gone on with."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from gossamer import data
from gossamer.data import Dataset
from gossamer.sparsifier import Sparsifier
from gossamer.training.config import Config
from gossamer.training.record import PARTS, Progress
from gossamer.updates import Change

# (step, number of steps, text) -> None; called after every step
Watcher = Callable[[int, int, str], None]
# (outputs, targets, row numbers of the training data) -> mean loss of a batch
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


class TrainingInterruptedError(Exception):
    """The user asked to stop; the text says what is left of the run."""


class Work(NamedTuple):
    """What the steps work on.

    Attributes:
        model: to be trained.
        optimizer: holds its parameters.
        sparsifier: None where nothing is sparse.
        num_steps: optimizer steps in all.
        steps_per_epoch: optimizer steps in one pass over the data.
    """

    model: nn.Module
    optimizer: Optimizer
    sparsifier: Sparsifier | None
    num_steps: int
    steps_per_epoch: int


class Recorder(Protocol):
    """Who keeps what comes of the steps, as `record.Record` does in a folder."""

    progress: Progress

    def check_finite(self, what: str, value: float, step: int) -> None:
        """Raise if a value is NaN or infinite."""

    def update(self, changes: Sequence[Change]) -> None:
        """Take note of what changed in the topologies."""

    def evaluate(self) -> None:
        """Look at the network at the end of an epoch."""

    def save(self) -> None:
        """Keep the network at the end of an epoch."""

    def stop(self) -> str:
        """End before the last step; return in words what is left of the run."""


def loss_of_labels(outputs: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
    """Return the mean cross entropy of a batch.

    Args:
        outputs: shape [batch, classes].
        targets: class of each, shape [batch].
        rows: their numbers in the training data; the labels say enough.
    """
    return cross_entropy(outputs, targets)


class Loop:
    """The steps of one run.

    Args:
        config: batch size, seed of the order, learning rate and its decay.
        dataset: that is trained on.
        work: what is trained, and how many steps.
        record: keeps what comes of it.
        watch: called after every step.
        loss: of a batch.
    """

    def __init__(
        self,
        config: Config,
        dataset: Dataset,
        work: Work,
        record: Recorder,
        watch: Watcher,
        loss: Loss = loss_of_labels,
    ) -> None:
        self.config, self.dataset, self.work = config, dataset, work
        self.record, self.progress = record, record.progress
        self.watch, self.loss = watch, loss

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Train to the end, or until it should stop.

        Args:
            should_stop: asked after every step.

        Raises:
            TrainingInterruptedError: it said so.
        """
        self.work.model.train()
        while self.progress.step < self.work.num_steps:
            for rows in self._remaining_batches():
                self._step(rows)
                if self.progress.step % self.work.steps_per_epoch == 0:
                    self.record.evaluate()
                    self.record.save()
                if should_stop():
                    raise TrainingInterruptedError(self.record.stop())

    def _remaining_batches(self) -> Iterator[Tensor]:
        """The batches of the current epoch that are still to come; their order follows from seed and epoch."""
        epoch, done = divmod(self.progress.step, self.work.steps_per_epoch)
        order = torch.Generator().manual_seed(self.config.seed * 1_000_003 + epoch)
        batches = data.batches(len(self.dataset.train_inputs), batch_size=self.config.batch_size, generator=order)
        yield from (rows for number, rows in enumerate(batches) if number >= done)

    def _step(self, rows: Tensor) -> None:
        work, progress = self.work, self.progress
        self._set_learning_rate()
        marks = [time.perf_counter()]
        inputs, targets = self.dataset.train_inputs[rows], self.dataset.train_targets[rows]
        marks.append(time.perf_counter())
        loss = self.loss(work.model(inputs), targets, rows)
        loss_value = float(loss.detach())
        self.record.check_finite("the loss", loss_value, progress.step + 1)
        marks.append(time.perf_counter())
        work.optimizer.zero_grad()
        loss.backward()
        marks.append(time.perf_counter())
        work.optimizer.step()
        marks.append(time.perf_counter())
        progress.step += 1
        changes = work.sparsifier.step() if work.sparsifier else []
        marks.append(time.perf_counter())
        self._count(marks, loss_value, len(rows))
        self.record.update(changes)
        self.watch(progress.step, work.num_steps, f"loss {loss_value:.3f}")

    def _count(self, marks: list[float], loss: float, num_rows: int) -> None:
        progress = self.progress
        for part, (start, stop) in zip(PARTS, pairwise(marks), strict=True):
            progress.where[part] += stop - start
        progress.seconds += marks[-1] - marks[0]
        progress.step_seconds.append(marks[-1] - marks[0])
        progress.loss_sum += loss * num_rows
        progress.loss_count += num_rows

    def _set_learning_rate(self) -> None:
        if self.config.decay == "cosine":
            share = self.progress.step / self.work.num_steps
            for group in self.work.optimizer.param_groups:
                group["lr"] = self.config.learning_rate * (1 + math.cos(math.pi * share)) / 2
