"""Train one network from a configuration into a folder: evaluate, record, save, resume."""

import copy
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gossamer import data, files
from gossamer.data import Dataset
from gossamer.nn import to_sparse
from gossamer.training.build import Setup, active_weights, set_up
from gossamer.training.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from gossamer.training.config import Config
from gossamer.training.machine import describe_machine
from gossamer.training.metrics import Diary, describe_layers, training_bytes
from gossamer.weights import MaskedWeight

MODEL = "model.safetensors"
_PARTS = ("data", "forward", "backward", "optimizer", "topology")

# (step, number of steps, text) -> None; called after every step
Watcher = Callable[[int, int, str], None]


class TrainingInterruptedError(Exception):
    """The user asked to stop; a checkpoint was written."""


class NotFiniteError(ValueError):
    """The loss became NaN or infinite."""


@dataclass
class _Progress:
    """What the loop itself remembers; everything else is in model, optimizer and sparsifier."""

    step: int = 0
    seconds: float = 0.0
    best_accuracy: float = 0.0
    final_accuracy: float = 0.0
    loss_sum: float = 0.0
    loss_count: int = 0
    diary_size: int = 0
    where: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_PARTS, 0.0))
    step_seconds: list[float] = field(default_factory=list)


def train(
    config: Config,
    dataset: Dataset,
    folder: Path,
    *,
    resume: bool = False,
    watch: Watcher | None = None,
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
        ValueError: the configuration cannot be, or the checkpoint is of another model.
        NotFiniteError: the loss became NaN; the checkpoint is of the last evaluation before that.
        TrainingInterruptedError: `should_stop` said so.
        OSError: a file could not be written; what was there is whole.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        run = _Run(config, dataset, folder, set_up(config, dataset), watch)
        try:
            run.start(resume=resume)
            return run.go(should_stop)
        finally:
            if run.setup.sparsifier:
                run.setup.sparsifier.finalize()


class _Run:
    """One training run between its start and its end."""

    def __init__(self, config: Config, dataset: Dataset, folder: Path, setup: Setup, watch: Watcher | None) -> None:
        self.config, self.dataset, self.folder, self.setup = config, dataset, folder, setup
        self.watch = watch
        self.progress = _Progress()
        self.diary: Diary

    def start(self, *, resume: bool) -> None:
        """Begin, or go on from the checkpoint."""
        if resume and (self.folder / CHECKPOINT).is_file():
            self.progress = _Progress(**load_checkpoint(self.folder, self.setup))
            self.diary = Diary(self.folder, size=self.progress.diary_size)
            return
        self.diary = Diary(self.folder)
        self.diary.write("start", self._description())
        self.diary.write("layers", {"when": "before", "layers": describe_layers(self.setup.model)})
        self._evaluate()
        self._save()

    def go(self, should_stop: Callable[[], bool]) -> dict[str, Any]:
        """Train to the end."""
        setup, progress = self.setup, self.progress
        setup.model.train()
        self._warm_up()
        while progress.step < setup.num_steps:
            for rows in self._remaining_batches():
                self._step(rows)
                if progress.step % setup.steps_per_epoch == 0:
                    self._evaluate()
                    self._save()
                if should_stop():
                    self._save()
                    raise TrainingInterruptedError(f"stopped after step {progress.step} of {setup.num_steps}")
        return self._finish()

    def _warm_up(self) -> None:
        """Compile kernels and fill caches on a copy, for dense and sparse alike, so that no step is timed doing it."""
        if self.watch:
            self.watch(self.progress.step, self.setup.num_steps, "compiling kernels, once a machine")
        rows, size = len(self.dataset.train_inputs), self.config.batch_size
        with torch.random.fork_rng(devices=[]):
            trial = copy.deepcopy(self.setup.model)
            for number in {min(size, rows), rows % size or size}:
                inputs, targets = self.dataset.train_inputs[:number], self.dataset.train_targets[:number]
                cross_entropy(trial(inputs), targets).backward()

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
        self._check_loss(loss)
        marks.append(time.perf_counter())
        setup.optimizer.zero_grad()
        loss.backward()
        marks.append(time.perf_counter())
        setup.optimizer.step()
        marks.append(time.perf_counter())
        progress.step += 1
        changes = setup.sparsifier.step() if setup.sparsifier else []
        marks.append(time.perf_counter())
        for part, (start, stop) in zip(_PARTS, pairwise(marks), strict=True):
            progress.where[part] += stop - start
        progress.seconds += marks[-1] - marks[0]
        progress.step_seconds.append(marks[-1] - marks[0])
        progress.loss_sum += float(loss.detach()) * len(rows)
        progress.loss_count += len(rows)
        if changes:
            self._record_update(sum(c.num_dropped for c in changes), sum(c.num_grown for c in changes))
        if self.watch:
            self.watch(progress.step, setup.num_steps, f"loss {float(loss.detach()):.3f}")

    def _set_learning_rate(self) -> None:
        if self.config.decay == "cosine":
            share = self.progress.step / self.setup.num_steps
            for group in self.setup.optimizer.param_groups:
                group["lr"] = self.config.learning_rate * (1 + math.cos(math.pi * share)) / 2

    def _check_loss(self, loss: Tensor) -> None:
        if not bool(loss.isfinite()):
            step = self.progress.step + 1
            self.diary.write("end", {"status": "failed", "note": f"the loss became {loss.item()} at step {step}"})
            raise NotFiniteError(
                f"the loss became {loss.item()} at step {step} (epoch {self._epoch(step):.2f}); the last good "
                f"checkpoint is kept in {self.folder}; lower --lr, or check the data"
            )

    def _epoch(self, step: int) -> float:
        return step / self.setup.steps_per_epoch

    def _evaluate(self) -> None:
        progress = self.progress
        loss, accuracy = evaluate(self.setup.model, self.dataset)
        progress.final_accuracy = accuracy
        progress.best_accuracy = max(progress.best_accuracy, accuracy)
        train_loss = progress.loss_sum / progress.loss_count if progress.loss_count else None
        progress.loss_sum, progress.loss_count = 0.0, 0
        self.diary.write(
            "evaluation",
            {
                "step": progress.step,
                "epoch": self._epoch(progress.step),
                "train_loss": train_loss,
                "test_loss": loss,
                "test_accuracy": accuracy,
                "num_active": self._num_active(),
                "seconds": progress.seconds,
            },
        )

    def _record_update(self, num_dropped: int, num_grown: int) -> None:
        self.diary.write(
            "update",
            {
                "step": self.progress.step,
                "num_dropped": num_dropped,
                "num_grown": num_grown,
                "num_active": self._num_active(),
            },
        )

    def _num_active(self) -> int:
        return self.setup.sparsifier.num_active() if self.setup.sparsifier else self.setup.num_weights

    def _save(self) -> None:
        self.progress.diary_size = self.diary.size
        save_checkpoint(self.folder, self.setup, vars(self.progress).copy())

    def _description(self) -> dict[str, Any]:
        return {
            "method": self.config.method,
            "label": self.setup.method.label,
            "seed": self.config.seed,
            "storage": self.setup.storage,
            "data": self.config.data,
            "model": self.config.model,
            "num_steps": self.setup.num_steps,
            "num_weights": self.setup.num_weights,
            "batch_size": self.config.batch_size,
            **describe_machine(),
        }

    def _finish(self) -> dict[str, Any]:
        setup, progress = self.setup, self.progress
        masks = [weight.mask for weight in _masked(setup)]
        held = training_bytes(setup.model, setup.optimizer, masks)
        if setup.sparsifier:
            setup.sparsifier.finalize()
        model = setup.model
        if setup.storage == "masked" and any(
            bool((m.weight == 0).any()) for m in model.modules() if type(m) is nn.Linear
        ):
            model = to_sparse(model)
        self.diary.write("layers", {"when": "after", "layers": describe_layers(model)})
        files.save(model, self.folder / MODEL, metadata={"method": self.config.method, "model": self.config.model})
        fields = {
            "status": "finished",
            "best_accuracy": progress.best_accuracy,
            "final_accuracy": progress.final_accuracy,
            "seconds": progress.seconds,
            "step_ms": 1e3 * statistics.median(progress.step_seconds),
            "inference_ms": _inference_ms(model, self.dataset, self.config.batch_size),
            "model_bytes": (self.folder / MODEL).stat().st_size,
            "training_bytes": held,
            "num_active": active_weights(model) if setup.storage == "masked" else self._num_active(),
            "where": progress.where,
        }
        self.diary.write("end", fields)
        return fields


def _masked(setup: Setup) -> list[MaskedWeight]:
    """The weights that carry a mask which leaves something out."""
    weights = setup.sparsifier.weights if setup.sparsifier else []
    return [weight for weight in weights if isinstance(weight, MaskedWeight) and not bool(weight.mask.all())]


def evaluate(model: nn.Module, dataset: Dataset, *, batch_size: int = 1000) -> tuple[float, float]:
    """Return the mean loss and the accuracy, in [0, 1], over the test rows; the model's mode is restored."""
    was_training = model.training
    model.eval()
    loss_sum, correct, total = 0.0, 0, len(dataset.test_inputs)
    with torch.no_grad():
        for start in range(0, total, batch_size):
            outputs = model(dataset.test_inputs[start : start + batch_size])
            targets = dataset.test_targets[start : start + batch_size]
            loss_sum += float(cross_entropy(outputs, targets, reduction="sum"))
            correct += int((outputs.argmax(1) == targets).sum())
    model.train(was_training)
    return loss_sum / total, correct / total


def _inference_ms(model: nn.Module, dataset: Dataset, batch_size: int) -> float:
    """Median time of a forward pass of one batch."""
    model.eval()
    inputs = dataset.test_inputs[:batch_size]
    times = []
    with torch.inference_mode():
        for _ in range(25):
            start = time.perf_counter()
            model(inputs)
            times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times[5:])
