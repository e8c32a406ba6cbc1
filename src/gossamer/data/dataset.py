"""One record that holds a classification data set, checked when it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Hold the training and test rows of one classification problem.

    Construction checks everything that a network needs to train on it, so whoever holds a `Dataset` may rely on
    finite inputs and on targets that are class numbers.

    Args:
        name: what the user calls it.
        train_inputs: [n, features], float32, finite.
        train_targets: [n], int64, each in [0, num_classes).
        test_inputs: [m, features], float32, finite.
        test_targets: [m], int64, each in [0, num_classes).
        num_classes: number of classes, at least 2.
        sample_shape: shape of one row before it was flattened, such as (1, 28, 28).
        source: where the rows come from.

    Raises:
        TypeError: inputs are not float32, or targets are not int64.
        ValueError: a part is empty, shapes or row counts disagree, an input is NaN or infinite, a target is no
            class number, or there are fewer than 2 classes.

    Example:
        >>> inputs, targets = torch.zeros(2, 3), torch.tensor([0, 1])
        >>> Dataset(name="toy", train_inputs=inputs, train_targets=targets, test_inputs=inputs,
        ...         test_targets=targets, num_classes=2, sample_shape=(3,), source="by hand").num_features
        3
    """

    name: str
    train_inputs: Tensor
    train_targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor
    num_classes: int
    sample_shape: tuple[int, ...]
    source: str

    def __post_init__(self) -> None:
        """Refuse data that no network could be trained on."""
        if self.num_classes < 2:
            raise ValueError(f"num_classes is {self.num_classes}; at least 2 classes are needed")
        for part, inputs, targets in (
            ("train", self.train_inputs, self.train_targets),
            ("test", self.test_inputs, self.test_targets),
        ):
            _check_shapes(part, inputs, targets, self.sample_shape)
            _check_finite(f"{part}_inputs", inputs)
            _check_targets(f"{part}_targets", targets, self.num_classes)

    @property
    def num_features(self) -> int:
        """Number of features of one row."""
        return math.prod(self.sample_shape)


def _check_shapes(part: str, inputs: Tensor, targets: Tensor, sample_shape: tuple[int, ...]) -> None:
    """Check types, ranks and row counts of one part."""
    if inputs.dtype != torch.float32 or targets.dtype != torch.int64:
        raise TypeError(f"{part}_inputs are {inputs.dtype} and {part}_targets {targets.dtype}; give float32 and int64")
    if inputs.ndim != 2 or targets.ndim != 1:
        raise ValueError(
            f"{part}_inputs have shape {tuple(inputs.shape)} and {part}_targets {tuple(targets.shape)}; "
            "give [n, features] and [n]"
        )
    if len(inputs) != len(targets):
        raise ValueError(f"{part}_inputs have {len(inputs)} rows, {part}_targets {len(targets)}; give one target a row")
    if inputs.numel() == 0:
        raise ValueError(f"{part}_inputs have shape {tuple(inputs.shape)}; at least one row and one feature are needed")
    if inputs.shape[1] != math.prod(sample_shape):
        raise ValueError(f"{part}_inputs have {inputs.shape[1]} features, but sample_shape is {sample_shape}")


def _check_finite(where: str, inputs: Tensor) -> None:
    """Name the first value that is NaN or infinite."""
    finite = inputs.isfinite()
    if bool(finite.all()):
        return
    bad = (~finite).nonzero()
    row, column = bad[0].tolist()
    raise ValueError(
        f"{where} hold {len(bad)} values that are NaN or infinite in float32, the first at row {row}, "
        f"column {column} (counted from 0); give finite values only"
    )


def _check_targets(where: str, targets: Tensor, num_classes: int) -> None:
    """Name the first target that is no class number."""
    bad = ((targets < 0) | (targets >= num_classes)).nonzero()
    if len(bad):
        row = int(bad[0])
        raise ValueError(
            f"{where}: row {row} (counted from 0) is {int(targets[row])}; with {num_classes} classes "
            f"targets lie in 0 to {num_classes - 1}"
        )
