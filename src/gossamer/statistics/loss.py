"""The mean loss over the data."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.statistics.batches import call, device_of, read, size
from gossamer.statistics.gradients import checked_loss
from gossamer.statistics.untouched import untouched


def mean_loss(model: nn.Module, data: Iterable[Any], loss_fn: Callable[[Any, Any], Tensor]) -> float:
    """Return the mean of the loss over all samples; a batch counts as many times as it has samples.

    Args:
        model: measured in evaluation mode, left as it is.
        data: labelled batches.
        loss_fn: (outputs, targets) -> scalar, the mean over the samples of a batch.

    Raises:
        ValueError: there is no batch, or the loss is no finite scalar.

    Example:
        >>> data = [(torch.zeros(3, 1), torch.zeros(3, 1)), (torch.zeros(1, 1), torch.ones(1, 1))]
        >>> mean_loss(nn.Identity(), data, nn.functional.mse_loss)
        0.25
    """
    total, count = 0.0, 0
    with untouched(model), torch.no_grad():
        for batch in read(data, device=device_of(model), labelled=True):
            total += size(batch) * float(checked_loss(loss_fn(call(model, batch.inputs), batch.targets)))
            count += size(batch)
    return total / count
