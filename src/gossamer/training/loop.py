"""Train one network from a configuration into a folder, step by step; stop and go on."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gossamer import data
from gossamer.data import Dataset
from gossamer.training.build import Setup, count_steps, set_up
from gossamer.training.config import Config
from gossamer.training.methods import find_method
from gossamer.training.record import PARTS, Record
from gossamer.training.trial import warm_up

# (step, number of steps, text) -> None; called after every step
Watcher = Callable[[int, int, str], None]


class TrainingInterruptedError(Exception):
    """The user asked to stop; a checkpoint was written."""


def train(
    config: Config,
    dataset: Dataset,
    folder: Path,
    *,
    resume: bool = False,
    watch: Watcher = lambda step, num_steps, note: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train one network and write metrics.jsonl, checkpoint.pt and model.safetensors into a folder.

    The same configuration gives the same network bit for bit on one machine with one number of threads, stopped and
    resumed or not.

    Args:
        config: what to train.
        dataset: from `build.load_data(config)`.
        folder: exists.
        resume: go on from the folder's checkpoint, if there is one.
        watch: called after every step with the step, the number of steps and a short text.
        should_stop: asked after every step; True: write a checkpoint and raise `TrainingInterruptedError`.

    Returns:
        The fields of the `end` event, see `report`.

    Raises:
        ValueError: the configuration cannot be, or the checkpoint is damaged, of another model or of other data.
        NotFiniteError: the loss or a weight became NaN; the checkpoint is one from before that.
        TrainingInterruptedError: `should_stop` said so.
        OSError: a file could not be written; what was there is whole.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if find_method(config.method).prune_first:
            watch(0, count_steps(config, dataset)[1], "pruning")
        setup = set_up(config, dataset)
        try:
            watch(0, setup.num_steps, "compiling kernels")
            _warm_up_on_a_copy(setup, dataset, config.batch_size)
            record = Record(config, dataset, folder, setup)
            record.begin(resume=resume)
            _Loop(config, dataset, setup, record, watch).run(should_stop)
            return record.finish()
        finally:
            if setup.sparsifier:
                setup.sparsifier.finalize()


def _warm_up_on_a_copy(setup: Setup, dataset: Dataset, batch_size: int) -> None:
    with torch.random.fork_rng(devices=[]):
        warm_up(copy.deepcopy(setup.model), dataset, batch_size)


class _Loop:
    """The steps of one run."""

    def __init__(self, config: Config, dataset: Dataset, setup: Setup, record: Record, watch: Watcher) -> None:
        self.config, self.dataset, self.setup = config, dataset, setup
        self.record, self.progress = record, record.progress
        self.watch = watch

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Train to the end, or until it should stop."""
        self.setup.model.train()
        while self.progress.step < self.setup.num_steps:
            for rows in self._remaining_batches():
                self._step(rows)
                if self.progress.step % self.setup.steps_per_epoch == 0:
                    self.record.evaluate()
                    self.record.save()
                if should_stop():
                    raise TrainingInterruptedError(self.record.stop())

    def _remaining_batches(self) -> Iterator[Tensor]:
        """The batches of the current epoch that are still to come; their order follows from seed and epoch."""
        epoch, done = divmod(self.progress.step, self.setup.steps_per_epoch)
        order = torch.Generator().manual_seed(self.config.seed * 1_000_003 + epoch)
        batches = data.batches(len(self.dataset.train_inputs), batch_size=self.config.batch_size, generator=order)
        yield from (rows for number, rows in enumerate(batches) if number >= done)

    def _step(self, rows: Tensor) -> None:
        setup, progress = self.setup, self.progress
        self._set_learning_rate()
        marks = [time.perf_counter()]
        inputs, targets = self.dataset.train_inputs[rows], self.dataset.train_targets[rows]
        marks.append(time.perf_counter())
        loss = cross_entropy(setup.model(inputs), targets)
        loss_value = float(loss.detach())
        self.record.check_finite("the loss", loss_value, progress.step + 1)
        marks.append(time.perf_counter())
        setup.optimizer.zero_grad()
        loss.backward()
        marks.append(time.perf_counter())
        setup.optimizer.step()
        marks.append(time.perf_counter())
        progress.step += 1
        changes = setup.sparsifier.step() if setup.sparsifier else []
        marks.append(time.perf_counter())
        self._count(marks, loss_value, len(rows))
        self.record.update(changes)
        self.watch(progress.step, setup.num_steps, f"loss {loss_value:.3f}")

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
            share = self.progress.step / self.setup.num_steps
            for group in self.setup.optimizer.param_groups:
                group["lr"] = self.config.learning_rate * (1 + math.cos(math.pi * share)) / 2
