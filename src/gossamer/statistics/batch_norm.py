"""Running statistics of batch normalisation, taken anew after weights were removed."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from gossamer.statistics.batches import Batch, call, device_of, read


def has_running_statistics(model: nn.Module) -> bool:
    """Return whether the model holds a batch normalisation with running statistics."""
    return any(module.track_running_stats for module in _norms(model))


def reestimate_(model: nn.Module, data: Iterable[Any]) -> None:
    """Replace all running means and variances by their plain averages over the data; nothing else changes.

    Removing weights shifts what every later normalisation sees; its old statistics are those of another network.

    Args:
        model: has batch normalisations; those that do not track statistics stay as they are.
        data: batches; targets are not looked at. Batches of one sample say nothing of a variance.

    Raises:
        ValueError: the data has no batch, or none of more than one sample.

    Cost: one forward pass over the data.
    """
    norms = [module for module in _norms(model) if module.track_running_stats]
    modes = {module: module.training for module in model.modules()}
    momenta = {module: module.momentum for module in norms}
    device = device_of(model)
    try:
        model.eval()
        for norm in norms:
            norm.reset_running_stats()
            # None stands for the plain average over all batches.
            norm.momentum = None
            norm.train()
        with torch.no_grad():
            seen = [_sees(model, batch) for batch in read(data, device=device, labelled=False)]
        if not any(seen):
            raise ValueError(
                "no batch has two samples or more, so there is no variance to measure; pass larger batches, or "
                "reestimate=False"
            )
    finally:
        for module, mode in modes.items():
            module.training = mode
        for norm, momentum in momenta.items():
            norm.momentum = momentum


def _sees(model: nn.Module, batch: Batch) -> bool:
    """Run the model on a batch, unless that is too small to have a variance, as the last one may be."""
    try:
        call(model, batch.inputs)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        return False
    return True


def _norms(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]
