"""Turn class labels of any kind into the class numbers 0 to k - 1."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def encode_labels(labels: NDArray[Any]) -> tuple[Tensor, NDArray[Any]]:
    """Number the classes in sorted order.

    Args:
        labels: [n], integers, whole floats, booleans or text.

    Returns:
        The class number of each row, [n], int64, and the k classes in sorted order, [k]. Text is sorted as text.

    Raises:
        ValueError: another shape or type, or a label that is not a whole number.

    Example:
        >>> encode_labels(np.array([1, -1, 1]))
        (tensor([1, 0, 1]), array([-1,  1]))
    """
    classes, targets = np.unique(check_labels(labels), return_inverse=True)
    return torch.from_numpy(targets.astype(np.int64)), classes


def encode_labels_like(labels: NDArray[Any], classes: NDArray[Any]) -> Tensor:
    """Number labels by classes that are already known.

    Args:
        labels: [n], integers, whole floats, booleans or text.
        classes: [k], sorted, as `encode_labels` returns them.

    Returns:
        The class number of each row, [n], int64.

    Raises:
        ValueError: as for `encode_labels`, or a label is not among the classes.

    Example:
        >>> encode_labels_like(np.array(["b", "a"]), np.array(["a", "b", "c"]))
        tensor([1, 0])
    """
    labels = check_labels(labels)
    if (labels.dtype.kind == "U") != (classes.dtype.kind == "U"):
        raise ValueError(
            f"labels are {labels.dtype}, the training labels {classes.dtype}; give both as numbers or both as text"
        )
    unknown = np.setdiff1d(labels, classes)
    if len(unknown):
        listed = ", ".join(repr(label) for label in unknown[:5].tolist())
        raise ValueError(
            f"{len(unknown)} labels of the test rows do not occur in the training rows, such as {listed}; "
            "every class needs training rows"
        )
    return torch.from_numpy(np.searchsorted(classes, labels).astype(np.int64))


def check_labels(labels: NDArray[Any]) -> NDArray[Any]:
    """Return the labels, bytes decoded to text, or say why they are none.

    Args:
        labels: [n].

    Returns:
        The labels, [n].

    Raises:
        ValueError: not one-dimensional, not numbers or text, or not whole.

    Example:
        >>> check_labels(np.array([1.0, 2.0]))
        array([1., 2.])
    """
    if labels.ndim != 1:
        raise ValueError(f"labels have shape {labels.shape}; give one label a row, shape [n]")
    if labels.dtype.kind == "S":
        # "backslashreplace" keeps labels that are not UTF-8 apart from each other.
        return np.char.decode(labels, "utf-8", "backslashreplace")
    if labels.dtype.kind not in "biufU":
        raise ValueError(f"labels are of type {labels.dtype}; give integers or text")
    if labels.dtype.kind == "f":
        fractional = np.flatnonzero(~np.isfinite(labels) | (labels != np.rint(labels)))
        if len(fractional):
            row = int(fractional[0])
            raise ValueError(
                f"{len(fractional)} labels are not whole numbers, the first is {labels[row]} at row {row} "
                "(counted from 0); only classification is supported, so labels are integers or text"
            )
    return labels
