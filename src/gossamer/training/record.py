"""What a run leaves in its folder: diary, checkpoints, and at its end the model with its measures."""

import math
import statistics
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from torch import Tensor

from gossamer import files
from gossamer.data import Dataset
from gossamer.machine import describe_machine
from gossamer.training.build import Setup
from gossamer.training.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from gossamer.training.config import Config
from gossamer.training.metrics import Diary, describe_layers, training_bytes
from gossamer.training.results import (
    evaluate,
    inference_ms,
    kept_model,
    latents_of,
    masks_of,
    memories_of,
    renew_statistics_,
)
from gossamer.updates import Change

MODEL = "model.safetensors"
PARTS = ("data", "forward", "backward", "optimizer", "topology")


class NotFiniteError(ValueError):
    """The loss or a weight became NaN or infinite."""


@dataclass
class Progress:
    """What a run remembers beside model, optimizer and sparsifier; it is saved with them.

    Attributes:
        checksum: of the data: a run goes on with the data that it began with.
        step: optimizer steps done.
        seconds: spent in them, and before the first in pruning.
        best_accuracy, final_accuracy: of the evaluations so far.
        loss_sum, loss_count: over the samples since the last evaluation.
        changed: whether a topology changed since then.
        diary_size: bytes of the diary at the checkpoint.
        where: seconds of each part of a step.
        step_seconds: of each step.
    """

    checksum: int
    step: int = 0
    seconds: float = 0.0
    best_accuracy: float = 0.0
    final_accuracy: float = 0.0
    loss_sum: float = 0.0
    loss_count: int = 0
    changed: bool = False
    diary_size: int = 0
    where: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    step_seconds: list[float] = field(default_factory=list)


class Record:
    """The folder of one run while it is trained.

    Args:
        config: of the run.
        dataset: that it trains on.
        folder: exists.
        setup: made of the two.

    Attributes:
        progress: to be kept up to date by the loop.
    """

    def __init__(self, config: Config, dataset: Dataset, folder: Path, setup: Setup) -> None:
        self._config, self._dataset, self._folder, self._setup = config, dataset, folder, setup
        self.progress = Progress(checksum=_checksum(dataset), seconds=setup.pruning_seconds)
        self.progress.where["topology"] = setup.pruning_seconds
        self._diary: Diary

    def begin(self, *, resume: bool) -> None:
        """Write down the start, or go back to the checkpoint if there is one.

        Raises:
            NotFiniteError: the loss is NaN from the first.
            ValueError: the checkpoint is damaged, or of another model or of other data.
        """
        if resume and (self._folder / CHECKPOINT).is_file():
            self.progress = self._load()
            self._diary = Diary(self._folder, size=self.progress.diary_size)
            return
        self._diary = Diary(self._folder)
        self._diary.write("start", self._description())
        self._diary.write("layers", {"when": "before", "layers": describe_layers(self._setup.model)})
        self.evaluate()
        self.save()

    def update(self, changes: Sequence[Change]) -> None:
        """Write down what changed in the topologies, if anything did."""
        if changes:
            self.progress.changed = True
            dropped, grown = sum(c.num_dropped for c in changes), sum(c.num_grown for c in changes)
            self._diary.write(
                "update",
                {
                    "step": self.progress.step,
                    "num_dropped": dropped,
                    "num_grown": grown,
                    "num_active": self._num_active(),
                },
            )

    def evaluate(self) -> None:
        """Measure loss and accuracy on the test rows and write them down.

        After a change of the topologies batch normalisation's running statistics are taken anew first.

        Raises:
            NotFiniteError: the loss is NaN or infinite.
        """
        progress, config = self.progress, self._config
        if progress.changed:
            renew_statistics_(self._setup.model, self._dataset, batch_size=config.batch_size, seed=config.seed)
            progress.changed = False
        loss, accuracy = evaluate(self._setup.model, self._dataset)
        self.check_finite("the test loss", loss, progress.step)
        progress.final_accuracy = accuracy
        progress.best_accuracy = max(progress.best_accuracy, accuracy)
        train_loss = progress.loss_sum / progress.loss_count if progress.loss_count else None
        progress.loss_sum, progress.loss_count = 0.0, 0
        self._diary.write(
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

    def save(self) -> None:
        """Write a checkpoint.

        Raises:
            NotFiniteError: a weight is NaN or infinite: a step may spoil the weights after a loss that was good, and
                then the checkpoint before it must stay.
            OSError: it could not be written; the one before is still there.
        """
        for name, parameter in self._setup.model.named_parameters():
            if not bool(parameter.detach().isfinite().all()):
                self._fail(f"{name} became NaN or infinite", self.progress.step)
        self._diary.sync()
        self.progress.diary_size = self._diary.size
        save_checkpoint(self._folder, self._setup, vars(self.progress))

    def check_finite(self, what: str, value: float, step: int) -> None:
        """Raise if a value is NaN or infinite.

        Args:
            what: such as "the loss".
            value: to be checked.
            step: at which it came about.

        Raises:
            NotFiniteError: it is.
        """
        if not math.isfinite(value):
            self._fail(f"{what} became {value}", step)

    def stop(self) -> str:
        """Write a checkpoint and that the run was stopped; return this in words."""
        self.save()
        note = f"after step {self.progress.step} of {self._setup.num_steps}"
        # A run that is resumed takes this line back.
        self._diary.write("end", {"status": "stopped", "note": note})
        return f"{self._name()} stopped {note}; the same command with --resume goes on"

    def finish(self) -> dict[str, Any]:
        """Save the model and return the fields of the `end` event."""
        setup, progress = self._setup, self.progress
        beside = [*masks_of(setup).values(), *latents_of(setup), *memories_of(setup)]
        held = training_bytes(setup.model, setup.optimizer, beside)
        if setup.sparsifier:
            setup.sparsifier.finalize()
        model = kept_model(setup)
        layers = describe_layers(model)
        self._diary.write("layers", {"when": "after", "layers": layers})
        files.save(model, self._folder / MODEL, metadata={"method": self._config.method, "model": self._config.model})
        fields = {
            "status": "finished",
            "best_accuracy": progress.best_accuracy,
            "final_accuracy": progress.final_accuracy,
            "seconds": progress.seconds,
            "step_ms": 1e3 * statistics.median(progress.step_seconds),
            "inference_ms": inference_ms(model, self._dataset, self._config.batch_size),
            "model_bytes": (self._folder / MODEL).stat().st_size,
            "training_bytes": held,
            "num_active": self._num_active(),
            "num_weights": setup.num_weights,
            # Nothing of the inputs comes through such a layer.
            "empty_layers": [layer["name"] for layer in layers if not layer["num_active"]],
            "where": progress.where,
        }
        self._diary.write("end", fields)
        return fields

    def _fail(self, what: str, step: int) -> NoReturn:
        note = f"{what} at step {step} (epoch {self._epoch(step):.2f})"
        self._diary.write("end", {"status": "failed", "note": note})
        raise NotFiniteError(
            f"{self._name()}: {note}; the last good checkpoint is kept in {self._folder}; start anew with a lower "
            "--lr, or check the data"
        )

    def _load(self) -> Progress:
        loaded = load_checkpoint(self._folder, self._setup)
        path = self._folder / CHECKPOINT
        if loaded.keys() != vars(self.progress).keys():
            raise ValueError(f"{path} is of another version of gossamer; start anew with --overwrite")
        if loaded["checksum"] != self.progress.checksum:
            raise ValueError(f"{path} is of other data; bring those back, or start anew with --overwrite")
        return Progress(**loaded)

    def _name(self) -> str:
        return f"{self._setup.method.label}, seed {self._config.seed}"

    def _epoch(self, step: int) -> float:
        return step / self._setup.steps_per_epoch

    def _num_active(self) -> int:
        return self._setup.sparsifier.num_active() if self._setup.sparsifier else self._setup.num_weights

    def _description(self) -> dict[str, Any]:
        return {
            "method": self._config.method,
            "label": self._setup.method.label,
            "seed": self._config.seed,
            "storage": self._setup.storage,
            "data": self._config.data,
            "model": self._config.model,
            "num_steps": self._setup.num_steps,
            "num_weights": self._setup.num_weights,
            "batch_size": self._config.batch_size,
            **describe_machine(),
        }


def _checksum(dataset: Dataset) -> int:
    result = 0
    parts: tuple[Tensor, ...] = (dataset.train_inputs, dataset.train_targets, dataset.test_inputs, dataset.test_targets)
    for part in parts:
        result = zlib.crc32(part.contiguous().numpy().data, result)
    return result
