"""Read a classification data set from one `.csv` file: numeric features and a label column."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gossamer.data.dataset import Dataset
from gossamer.data.split import split_table


def read_csv(path: Path) -> Dataset:
    r"""Read a comma-separated table, UTF-8, one sample a line, and split it by `stratified_split`.

    The first line is a header if no cell in it is a number, or if a column is named label, target or class. The
    label column is the one named label, target, class or (without one of these) y, in any case; else the last.
    Labels that are all numbers are sorted as numbers, others as text.

    Args:
        path: the file.

    Returns:
        The data set; values as stored in float32, labels numbered in sorted order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an empty file, a line of another length than the first, a feature that is not a finite number,
            a label that is missing or not whole (each named by line and column), or data that `Dataset` refuses.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "toy.csv")
        ...     _ = path.write_text("width,length,label\n" + "1,2,cat\n3,4.5,dog\n" * 5)
        ...     read_csv(path).num_features
        2

    Cost: memory of about 16 bytes a cell.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        table = _read_table(path)
        inputs, labels = torch.from_numpy(_features(table)), _labels(table)
        return split_table(path.stem, inputs, labels, sample_shape=(table.width - 1,), source=str(path))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error}); save it as UTF-8") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class _Table:
    """Numbers of the feature columns row by row, labels as text, and the line in the file of each row."""

    values: array[float]
    labels: list[str]
    lines: list[int]
    width: int
    label_column: int

    def place(self, row: int, feature: int) -> str:
        """Name a feature by line and column as an editor counts them."""
        return f"line {self.lines[row]}, column {feature + 1 + (feature >= self.label_column)}"


def _read_table(path: Path) -> _Table:
    """Read the whole file."""
    rows = _rows(path)
    first_line, first = next(rows, (1, []))
    if len(first) < 2:
        state = f"line {first_line} has one column" if first else "the file is empty"
        raise ValueError(f"{state}; give at least one feature and a label, separated by commas")
    header = _is_header(first)
    label_column = _label_column(first) if header else len(first) - 1
    table = _Table(values=array("d"), labels=[], lines=[], width=len(first), label_column=label_column)
    for line, cells in rows if header else chain([(first_line, first)], rows):
        if len(cells) != table.width:
            raise ValueError(
                f"line {line} has {len(cells)} columns, line {first_line} has {table.width}; "
                "every line needs the same number"
            )
        table.lines.append(line)
        table.labels.append(cells.pop(label_column).strip())
        table.values.extend(_numbers(cells, table))
    if not table.lines:
        raise ValueError("there is a header and no rows; give one line a sample")
    return table


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the cells of each line that is not blank."""
    # utf-8-sig: spreadsheets put a byte-order mark in front, which would spoil the first number.
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            for cells in reader:
                if len(cells) > 1 or (cells and cells[0].strip()):
                    yield reader.line_num, cells
        except csv.Error as error:
            raise ValueError(f"line {reader.line_num}: {error}; give comma-separated values") from error


def _is_number(cell: str) -> bool:
    """Tell whether a cell is a number; Python's 1_000 is none."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def _is_header(cells: list[str]) -> bool:
    """Tell whether the first line holds names."""
    # A mere "y" beside numbers does not make a header: it may be the answer of a yes/no column.
    named = any(cell.strip().lower() in ("label", "target", "class") for cell in cells)
    return named or not any(_is_number(cell) for cell in cells)


def _label_column(header: list[str]) -> int:
    """Find the label column by its name; without one it is the last."""
    names = [cell.strip().lower() for cell in header]
    if "" in names:
        raise ValueError(
            f"line 1, column {names.index('') + 1} of the header has no name; name it, or leave the row numbers out"
        )
    columns = [column for column, name in enumerate(names) if name in ("label", "target", "class")]
    columns = columns or [column for column, name in enumerate(names) if name == "y"]
    if len(columns) > 1:
        listed = ", ".join(f"{names[column]} (column {column + 1})" for column in columns)
        raise ValueError(f"the header names more than one label column: {listed}; keep one")
    return columns[0] if columns else len(names) - 1


def _numbers(cells: list[str], table: _Table) -> list[float]:
    """Convert the feature cells of the newest row."""
    try:
        if "_" not in "".join(cells):
            return list(map(float, cells))
    except ValueError:
        pass
    feature = next(feature for feature, cell in enumerate(cells) if not _is_number(cell))
    raise ValueError(
        f"{table.place(-1, feature)}: {cells[feature]!r} is not a number; features are numbers (a first line is "
        "taken for a header if none of its cells is a number or one is label, target or class)"
    )


def _features(table: _Table) -> NDArray[np.float32]:
    """Return the features, [n, features], all finite."""
    wide = np.frombuffer(table.values, dtype=np.float64).reshape(len(table.lines), table.width - 1)
    with np.errstate(over="ignore"):
        features = wide.astype(np.float32)
    bad = np.argwhere(~np.isfinite(features))
    if len(bad):
        row, feature = bad[0].tolist()
        raise ValueError(
            f"{table.place(row, feature)}: {wide[row, feature]} is NaN or infinite in float32, the first of {len(bad)} "
            "such values; give finite numbers"
        )
    return features


def _labels(table: _Table) -> NDArray[Any]:
    """Return the labels as whole numbers if all are numbers, else as text."""
    column = table.label_column + 1
    if "" in table.labels:
        line = table.lines[table.labels.index("")]
        raise ValueError(f"line {line}, column {column}: the label is missing; give every row a label")
    if not all(_is_number(label) for label in table.labels):
        return np.array(table.labels)
    numbers = np.array([float(label) for label in table.labels])
    bad = np.flatnonzero(~np.isfinite(numbers) | (numbers != np.rint(numbers)))
    if len(bad):
        row = int(bad[0])
        raise ValueError(
            f"line {table.lines[row]}, column {column}: label {table.labels[row]!r} is not a whole number; only "
            "classification is supported, so labels are whole numbers or text"
        )
    return numbers
