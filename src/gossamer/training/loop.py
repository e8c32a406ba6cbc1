"""Train one network from a configuration into a folder."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gossamer.data import Dataset
from gossamer.training.build import Setup, count_steps, set_up
from gossamer.training.config import Config
from gossamer.training.methods import find_method
from gossamer.training.record import Record
from gossamer.training.steps import Loop, Watcher, Work
from gossamer.training.trial import warm_up


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
            work = Work(setup.model, setup.optimizer, setup.sparsifier, setup.num_steps, setup.steps_per_epoch)
            Loop(config, dataset, work, record, watch).run(should_stop)
            return record.finish()
        finally:
            if setup.sparsifier:
                setup.sparsifier.finalize()


def _warm_up_on_a_copy(setup: Setup, dataset: Dataset, batch_size: int) -> None:
    with torch.random.fork_rng(devices=[]):
        warm_up(copy.deepcopy(setup.model), dataset, batch_size)
