"""Load a data set by its name or from a file: what `--data` at the command line takes."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path

from gossamer.data.csv import read_csv
from gossamer.data.dataset import Dataset
from gossamer.data.digits import digits
from gossamer.data.mnist import fashion_mnist, mnist
from gossamer.data.npz import read_npz
from gossamer.data.standardize import standardize_inputs

_DOWNLOADED = {"mnist": mnist, "fashion-mnist": fashion_mnist}
_FILES = {".csv": read_csv, ".npz": read_npz}
_NAMES = ("digits", *_DOWNLOADED)


def load(
    name: str | Path,
    *,
    data_dir: Path | None = None,
    train_size: int | None = None,
    test_size: int | None = None,
    standardize: bool = True,
) -> Dataset:
    """Load a classification data set.

    Args:
        name: `digits`, `mnist`, `fashion-mnist`, or the path of an `.npz` or `.csv` file.
        data_dir: folder with the files of `mnist` or `fashion-mnist`; see `mnist` for what None does.
        train_size: keep only that many training rows, the first ones; None keeps all. Files that bring their own
            split are taken in their order, which should not be sorted by class.
        test_size: the same for the test rows.
        standardize: give every feature mean 0 and deviation 1 over the training rows that are kept.

    Returns:
        The data set. The number of classes is that of the whole set, whatever rows are kept.

    Raises:
        FileNotFoundError: there is no such file, or the folder lacks the files.
        ImportError: a package is missing; the text says which.
        RuntimeError: a download failed.
        TypeError: a size is no integer.
        ValueError: an unknown name, a size below 1 or beyond the rows there are, a `data_dir` that has no effect,
            or a file with bad content.

    Example:
        >>> data = load("digits", train_size=100)
        >>> data.train_inputs.shape, data.sample_shape
        (torch.Size([100, 64]), (1, 8, 8))
    """
    dataset = _load_whole(name, data_dir)
    train_rows = _checked_size("train_size", train_size, len(dataset.train_inputs))
    test_rows = _checked_size("test_size", test_size, len(dataset.test_inputs))
    if train_size is not None or test_size is not None:
        # Copies, so that the rows left out are not held in memory by a view.
        dataset = replace(
            dataset,
            train_inputs=dataset.train_inputs[:train_rows].clone(),
            train_targets=dataset.train_targets[:train_rows].clone(),
            test_inputs=dataset.test_inputs[:test_rows].clone(),
            test_targets=dataset.test_targets[:test_rows].clone(),
        )
    return standardize_inputs(dataset) if standardize else dataset


def _load_whole(name: str | Path, data_dir: Path | None) -> Dataset:
    """Find out what the name means and load all rows."""
    if name in _DOWNLOADED:
        return _DOWNLOADED[str(name)](data_dir)
    path = Path(name).expanduser()
    read = _FILES.get(path.suffix.lower())
    if name != "digits" and read is None:
        raise ValueError(_unknown(str(name)))
    if data_dir is not None:
        raise ValueError(
            f"data_dir is {data_dir}, but only {' and '.join(_DOWNLOADED)} use it; leave it out for {name}"
        )
    return digits() if read is None else read(path)


def _unknown(name: str) -> str:
    """Say what is allowed, the nearest names first."""
    near = difflib.get_close_matches(name.lower(), _NAMES, cutoff=0.5)
    guess = f"did you mean {' or '.join(near)}? " if near else ""
    return f"unknown data set '{name}'; {guess}allowed are {', '.join(_NAMES)} and paths that end in .npz or .csv"


def _checked_size(name: str, size: int | None, available: int) -> int:
    """Return how many rows to keep."""
    if size is None:
        return available
    if not isinstance(size, int) or isinstance(size, bool):
        raise TypeError(f"{name} is {size!r}; give an integer or None")
    if not 1 <= size <= available:
        raise ValueError(f"{name} is {size}; give 1 to {available}, the number of rows there are, or leave it out")
    return size
