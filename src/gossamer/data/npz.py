"""Read a classification data set from one `.npz` file."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray
from torch import Tensor

from gossamer.data.dataset import Dataset
from gossamer.data.labels import encode_labels, encode_labels_like
from gossamer.data.split import split_table

_TEST_PAIRS = (("x_test", "y_test"), ("x_valid", "y_valid"))
_ALLOWED = "x_train, y_train with x_test, y_test or x_valid, y_valid; or x, y, of which a fifth becomes test rows"

# What NumPy and zipfile raise on an archive that is cut short or has flipped bits. MemoryError is among them
# because a damaged header can claim any number of rows.
_DAMAGE = (
    ValueError,
    EOFError,
    OSError,
    KeyError,
    SyntaxError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_npz(path: Path) -> Dataset:
    """Read inputs and labels from the arrays of an `.npz` file.

    The arrays are `x_train`, `y_train`, `x_test`, `y_test`; without a test pair `x_valid`, `y_valid` serve as test
    rows; a file with only `x`, `y` is split by `stratified_split`. Other arrays are left alone. Pickles are never
    loaded.

    Args:
        path: the file.

    Returns:
        The data set: each row flattened, values as stored in float32, labels numbered in sorted order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a damaged file, missing arrays, arrays of the wrong shape or type, or data that `Dataset`
            refuses.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "toy.npz")
        ...     np.savez(path, x=np.zeros((10, 4, 4)), y=np.arange(10) % 2)
        ...     read_npz(path).sample_shape
        (4, 4)
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        arrays = _read_arrays(path)
        return _with_split(path, *arrays) if len(arrays) == 4 else _without_split(path, *arrays)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read_arrays(path: Path) -> list[NDArray[Any]]:
    """Read the two or four arrays that make the data set."""
    try:
        # Not np.load: it leaves the file open when the archive is damaged, and takes files that are no archive.
        with path.open("rb") as file, NpzFile(file, allow_pickle=False) as archive:
            found = list(archive.files)
            arrays = {name: archive[name] for name in _wanted(found)}
    except _DAMAGE as error:
        raise ValueError(
            f"cannot be read as an .npz file ({error}); write it again with numpy.savez, "
            "with arrays of numbers or text only"
        ) from error
    if not arrays:
        raise ValueError(f"arrays found: {', '.join(sorted(found)) or 'none'}; needed: {_ALLOWED}")
    for name, array in arrays.items():
        # NumPy hands out members that are no arrays as bytes.
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{name} is no NumPy array; write the file again with numpy.savez")
    return list(arrays.values())


def _wanted(found: list[str]) -> tuple[str, ...]:
    """Choose the arrays to read; none if the file lacks what is needed."""
    for pair in _TEST_PAIRS:
        names = ("x_train", "y_train", *pair)
        if set(names) <= set(found):
            return names
    return ("x", "y") if {"x", "y"} <= set(found) else ()


def _with_split(
    path: Path, x_train: NDArray[Any], y_train: NDArray[Any], x_test: NDArray[Any], y_test: NDArray[Any]
) -> Dataset:
    """Make the data set from rows that are split already."""
    if x_train.shape[1:] != x_test.shape[1:]:
        raise ValueError(f"training rows have shape {x_train.shape[1:]}, test rows {x_test.shape[1:]}; give one shape")
    train_targets, classes = encode_labels(y_train)
    return Dataset(
        name=path.stem,
        train_inputs=_flat_float32(x_train),
        train_targets=train_targets,
        test_inputs=_flat_float32(x_test),
        test_targets=encode_labels_like(y_test, classes),
        num_classes=len(classes),
        sample_shape=x_train.shape[1:],
        source=str(path),
    )


def _without_split(path: Path, x: NDArray[Any], y: NDArray[Any]) -> Dataset:
    """Make the data set from one table."""
    if x.shape[:1] != y.shape[:1]:
        raise ValueError(f"x has shape {x.shape}, y {y.shape}; give one label a row")
    return split_table(path.stem, _flat_float32(x), y, sample_shape=x.shape[1:], source=str(path))


def _flat_float32(array: NDArray[Any]) -> Tensor:
    """Return the rows flattened, [n, features]."""
    if array.ndim < 2 or array.dtype.kind not in "biuf":
        raise ValueError(
            f"inputs have shape {array.shape} and type {array.dtype}; give real numbers of shape [n, features] or "
            "[n, ...]"
        )
    # Values beyond float32 become infinite here and are named by the Dataset's check.
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(array, dtype=np.float32)
    return torch.from_numpy(values.reshape(len(array), math.prod(array.shape[1:])))
