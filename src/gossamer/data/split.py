"""Split one table of rows into training and test rows, the same way on every machine and in every run."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gossamer.data.dataset import Dataset
from gossamer.data.labels import encode_labels

# Fixed and not the run's seed: runs with other seeds must be scored on the same test rows.
SPLIT_SEED = 0


def stratified_split(targets: Tensor, *, seed: int = SPLIT_SEED) -> tuple[Tensor, Tensor]:
    """Choose a fifth of the rows, rounded up, as test rows; each class in proportion.

    A class keeps at least one training row, so a class of one row is never tested.

    Args:
        targets: class numbers, [n], int64.
        seed: decides which rows of a class are chosen, and the order of the rows.

    Returns:
        Row numbers of the training rows and of the test rows, int64, each in shuffled order.

    Raises:
        ValueError: no class has two rows.

    Example:
        >>> train_rows, test_rows = stratified_split(torch.tensor([0] * 5 + [1] * 5))
        >>> len(train_rows), sorted((test_rows >= 5).tolist())
        (8, [False, True])
    """
    classes = targets.numpy()
    # NumPy froze the stream of RandomState; that of default_rng may change between versions.
    generator = np.random.RandomState(seed)
    order = generator.permutation(len(classes))
    is_test = np.zeros(len(classes), dtype=np.bool_)
    for number, count in enumerate(_test_counts(np.bincount(classes))):
        is_test[order[classes[order] == number][:count]] = True
    if not is_test.any():
        raise ValueError(
            f"{len(classes)} rows cannot be split into training and test rows; "
            "at least one class needs two rows or more"
        )
    # A second draw: in the first one the head of the training rows lacks the classes that were chosen late.
    order = generator.permutation(len(classes))
    return torch.from_numpy(order[~is_test[order]]), torch.from_numpy(order[is_test[order]])


def _test_counts(counts: NDArray[np.intp]) -> NDArray[np.intp]:
    """Share a fifth of all rows among the classes by largest remainder."""
    total = int(counts.sum())
    num_test = -(-total // 5)
    shares, remainders = np.divmod(counts * num_test, max(total, 1))
    shares[np.argsort(-remainders, kind="stable")[: num_test - int(shares.sum())]] += 1
    return np.minimum(shares, np.maximum(counts - 1, 0))


def split_table(
    name: str, inputs: Tensor, labels: NDArray[Any], *, sample_shape: tuple[int, ...], source: str
) -> Dataset:
    """Make a data set from one table, with the fixed split.

    Args:
        name: what the user calls it.
        inputs: [n, features], float32.
        labels: [n], integers, whole floats or text.
        sample_shape: shape of one row before it was flattened.
        source: where the rows come from.

    Returns:
        The data set; its rows are shuffled.

    Raises:
        ValueError: labels that are no classes, too few rows, or data that `Dataset` refuses.

    Example:
        >>> inputs, labels = torch.zeros(10, 1), np.array(["cat", "dog"] * 5)
        >>> split_table("toy", inputs, labels, sample_shape=(1,), source="by hand").test_targets
        tensor([0, 1])
    """
    targets, classes = encode_labels(labels)
    train_rows, test_rows = stratified_split(targets)
    return Dataset(
        name=name,
        train_inputs=inputs[train_rows],
        train_targets=targets[train_rows],
        test_inputs=inputs[test_rows],
        test_targets=targets[test_rows],
        num_classes=len(classes),
        sample_shape=sample_shape,
        source=source,
    )
