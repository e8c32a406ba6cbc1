"""Bring every feature to mean 0 and deviation 1, as the training rows have them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from gossamer.data.dataset import Dataset

# Rows converted to float64 at a time: keeps the extra memory to some tens of megabytes.
_CHUNK_ROWS = 4096


def standardize_inputs(dataset: Dataset) -> Dataset:
    """Shift and scale each feature by the mean and deviation of its training rows.

    x' = (x - mean) / deviation, the deviation with divisor n; a feature that is constant in the training rows
    becomes 0 in training and test rows alike.

    Args:
        dataset: the data set.

    Returns:
        A new data set with the same targets.

    Raises:
        ValueError: a result is too large for float32.

    Example:
        >>> inputs, targets = torch.tensor([[1.0, 5.0], [3.0, 5.0]]), torch.tensor([0, 1])
        >>> standardize_inputs(Dataset(name="toy", train_inputs=inputs, train_targets=targets, test_inputs=inputs,
        ...     test_targets=targets, num_classes=2, sample_shape=(2,), source="by hand")).train_inputs
        tensor([[-1., 0.],
                [ 1., 0.]])

    Cost: one copy of the inputs.
    """
    mean, scale = _mean_and_scale(dataset.train_inputs)
    return replace(
        dataset,
        train_inputs=_scaled(dataset.train_inputs, mean, scale),
        test_inputs=_scaled(dataset.test_inputs, mean, scale),
    )


def _mean_and_scale(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and 1 / deviation of each column, float64; the scale of a constant column is 0."""
    chunks = inputs.split(_CHUNK_ROWS)
    mean = torch.stack([chunk.double().sum(0) for chunk in chunks]).sum(0) / len(inputs)
    squares = torch.stack([(chunk.double() - mean).square().sum(0) for chunk in chunks]).sum(0)
    deviation = (squares / len(inputs)).sqrt()
    # Exactly 0 where a column is constant: float64 holds the sum of equal float32 values without rounding.
    return mean, torch.where(deviation > 0, 1 / deviation, 0.0)


def _scaled(inputs: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Apply the shift and the scale in float64 and return float32."""
    result = torch.empty_like(inputs)
    for source, target in zip(inputs.split(_CHUNK_ROWS), result.split(_CHUNK_ROWS), strict=True):
        target.copy_((source.double() - mean) * scale)
    return result
