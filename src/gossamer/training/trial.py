"""Try a configuration before anything is written: what cannot be trained is found out at once."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from gossamer.data import Dataset
from gossamer.training.build import set_up
from gossamer.training.config import Config
from gossamer.training.own_model import reason


def check(config: Config, dataset: Dataset) -> None:
    """Make what a run would work on, take a batch once through it, and throw it away.

    Args:
        config: of the run.
        dataset: from `build.load_data(config)`.

    Raises:
        ValueError: the configuration cannot be, or the model cannot be trained on such batches.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        # One round of pruning finds what a hundred would.
        setup = set_up(config, dataset, rounds=1)
        try:
            check_steps(setup.model, config, dataset)
        finally:
            if setup.sparsifier:
                setup.sparsifier.finalize()


def check_steps(model: nn.Module, config: Config, dataset: Dataset) -> None:
    """Take a batch of each size once through a model that can be thrown away.

    Raises:
        ValueError: it cannot be trained on such batches.
    """
    try:
        warm_up(model, dataset, config.batch_size)
    except Exception as error:
        raise ValueError(f"{config.model} cannot be trained, {reason(error)}") from error


def warm_up(model: nn.Module, dataset: Dataset, batch_size: int) -> None:
    """Compile kernels and fill caches, so that no step is timed doing it.

    Args:
        model: a copy, or one to be thrown away: it gets gradients.
        dataset: its first rows are used.
        batch_size: of the training; the last batch of an epoch may be smaller, and is tried too.

    Raises:
        ValueError: the loss is not finite.
    """
    rows = len(dataset.train_inputs)
    largest = min(batch_size, rows)
    for number in sorted({largest, rows % batch_size or largest}, reverse=True):
        try:
            loss = cross_entropy(model(dataset.train_inputs[:number]), dataset.train_targets[:number])
            loss.backward()
        except Exception as error:
            if number < largest:
                error.add_note(f"(in the last batch of an epoch, of {number} rows; another --batch-size may help)")
            raise
        if not bool(loss.isfinite()):
            raise ValueError(
                f"the loss before the first step is {loss.item()}; check the values that the network starts with"
            )
