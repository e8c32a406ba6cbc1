"""Which entries of a weight exist: CSR and its transpose, in memory that follows the active entries alone."""

import hashlib
from typing import NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor

from gossamer import sampling

_INT32_MAX = 2**31 - 1


class Topology(NamedTuple):
    """The places of the active entries of a matrix, row by row, columns ascending.

    Attributes:
        shape: (rows, columns) = (out_features, in_features).
        row_pointers: entries of row r stand at [row_pointers[r], row_pointers[r + 1]), shape [rows + 1].
        column_indices: column of each entry, shape [num_active].

    Both are int32, or int64 where a size passes 2^31 - 1.
    """

    shape: tuple[int, int]
    row_pointers: Tensor
    column_indices: Tensor

    @property
    def num_active(self) -> int:
        """Number of entries that exist."""
        return self.column_indices.numel()


class Transpose(NamedTuple):
    """The same entries column by column, rows ascending.

    Attributes:
        column_pointers: entries of column c stand at [column_pointers[c], column_pointers[c + 1]), shape [columns + 1].
        row_indices: row of each entry, shape [num_active].
        permutation: where each entry stands in the order of the rows, shape [num_active].
    """

    column_pointers: Tensor
    row_indices: Tensor
    permutation: Tensor


def index_dtype(shape: tuple[int, int], num_active: int) -> torch.dtype:
    """Return int32 if every index of such a topology fits, else int64.

    Args:
        shape: (rows, columns).
        num_active: number of entries.

    Example:
        >>> index_dtype((50_000, 50_000), 1_000_000)
        torch.int32
    """
    return torch.int32 if max(*shape, num_active) <= _INT32_MAX else torch.int64


def from_linear(linear: Tensor, shape: tuple[int, int]) -> Topology:
    """Make a topology from linear indices row * columns + column.

    Args:
        linear: ascending, without repeats, in [0, rows * columns), shape [num_active], int64.
        shape: (rows, columns).

    Raises:
        ValueError: the indices are out of range, not ascending or repeated.

    Example:
        >>> from_linear(torch.tensor([1, 3, 5]), (2, 3)).column_indices
        tensor([1, 0, 2], dtype=torch.int32)
    """
    rows, columns = _check_shape(shape)
    if linear.numel():
        first, last = int(linear[0]), int(linear[-1])
        if first < 0 or last >= rows * columns or not bool((linear[1:] > linear[:-1]).all()):
            raise ValueError(
                f"linear indices run from {first} to {last}; they must ascend without repeats within "
                f"[0, {rows * columns}) for a {rows} x {columns} weight: sort them, drop the repeats"
            )
    dtype = index_dtype(shape, linear.numel())
    row_of = linear.div(max(columns, 1), rounding_mode="floor")
    pointers = torch.searchsorted(row_of, torch.arange(rows + 1, device=linear.device))
    return Topology((rows, columns), pointers.to(dtype), (linear - row_of * columns).to(dtype))


def from_mask(mask: Tensor) -> Topology:
    """Make a topology from a boolean or numeric matrix: what is True or not zero is active.

    Args:
        mask: shape [rows, columns].

    Raises:
        ValueError: `mask` is not a matrix.

    Example:
        >>> from_mask(torch.eye(3)).row_pointers
        tensor([0, 1, 2, 3], dtype=torch.int32)
    """
    if mask.dim() != 2:
        raise ValueError(f"a topology describes a matrix, got shape {tuple(mask.shape)}; flatten the input axes first")
    linear = mask.detach().flatten().nonzero().flatten()
    return from_linear(linear, (mask.shape[0], mask.shape[1]))


def erdos_renyi(shape: tuple[int, int], num_active: int, *, generator: torch.Generator) -> Topology:
    """Draw a random topology with exactly `num_active` entries, every such topology equally likely.

    Args:
        shape: (rows, columns).
        num_active: number of entries, 0 <= num_active <= rows * columns.
        generator: source of randomness, on the CPU.

    Raises:
        ValueError: more entries than places.

    Source:
        Mocanu et al. Scalable training of artificial neural networks with adaptive sparse connectivity inspired by
        network science. Nature Communications 2018, arXiv:1707.04780.
        Differs: an exact count; the paper switches each entry on with a probability, so its count varies.

    Cost: O(num_active log num_active + rows), no dense detour.

    Example:
        >>> erdos_renyi((4, 4), 16, generator=torch.Generator()).num_active
        16
    """
    rows, columns = _check_shape(shape)
    return from_linear(sampling.distinct(rows * columns, num_active, generator=generator), shape)


def linear_indices(topology: Topology) -> Tensor:
    """Return row * columns + column of each entry, ascending, shape [num_active], int64."""
    return row_indices(topology) * topology.shape[1] + topology.column_indices


def row_indices(topology: Topology) -> Tensor:
    """Return the row of each entry, ascending, shape [num_active], int64."""
    return torch.repeat_interleave(topology.row_pointers.diff().long(), output_size=topology.num_active)


def transpose(topology: Topology) -> Transpose:
    """Order the entries by columns, by counting: O(num_active + columns) on the CPU.

    Example:
        >>> transpose(from_mask(torch.tensor([[0, 1], [1, 1]]))).permutation
        tensor([1, 0, 2], dtype=torch.int32)
    """
    pointers, columns = topology.row_pointers, topology.column_indices
    if columns.device.type == "cpu":
        arrays = _count_columns(pointers.numpy(), columns.numpy(), topology.shape[1])
        return Transpose(*(torch.from_numpy(array) for array in arrays))
    permutation = torch.argsort(columns, stable=True)
    boundaries = torch.arange(topology.shape[1] + 1, device=columns.device)
    column_pointers = torch.searchsorted(columns[permutation].long(), boundaries)
    rows = row_indices(topology)[permutation]
    return Transpose(*(part.to(columns.dtype) for part in (column_pointers, rows, permutation)))


def to_mask(topology: Topology) -> Tensor:
    """Return the boolean matrix, True = active, shape [rows, columns]."""
    mask = torch.zeros(topology.shape, dtype=torch.bool, device=topology.column_indices.device)
    mask.view(-1)[linear_indices(topology)] = True
    return mask


def check_topology(topology: Topology) -> None:
    """Raise unless the arrays describe a topology: a file or a state_dict can bring anything.

    Raises:
        ValueError: the arrays are no vectors of int32 or of int64, pointers do not ascend from 0 to num_active, or
            columns are out of range or out of order.
    """
    shape, pointers, columns = topology
    _check_shape(shape)
    if columns.dim() != 1 or pointers.dtype != columns.dtype or columns.dtype not in (torch.int32, torch.int64):
        raise ValueError(
            f"row_pointers is {pointers.dtype}, column_indices {columns.dtype} of shape {tuple(columns.shape)}; "
            "both must be vectors of int32 or both of int64"
        )
    if pointers.shape != (shape[0] + 1,):
        raise ValueError(f"row_pointers has shape {tuple(pointers.shape)}, {shape[0]} rows need ({shape[0] + 1},)")
    # Compared, not subtracted: a difference may wrap around.
    if int(pointers[0]) != 0 or int(pointers[-1]) != columns.numel() or bool((pointers[1:] < pointers[:-1]).any()):
        raise ValueError(f"row_pointers must ascend from 0 to {columns.numel()}, the number of active weights")
    if columns.numel() and (int(columns.min()) < 0 or int(columns.max()) >= shape[1]):
        raise ValueError(f"column_indices run from {int(columns.min())} to {int(columns.max())} of {shape[1]} columns")
    if not bool((linear_indices(topology).diff() > 0).all()):
        raise ValueError("column_indices must ascend within each row without repeats")


def fingerprint(topology: Topology) -> str:
    """Return a hash of the active places: equal exactly where topologies are equal, on any device and index type.

    Example:
        >>> one = from_mask(torch.eye(3))
        >>> fingerprint(one) == fingerprint(from_mask(torch.eye(3))) != fingerprint(from_mask(torch.ones(3, 3)))
        True
    """
    digest = hashlib.sha256(repr(tuple(topology.shape)).encode())
    digest.update(linear_indices(topology).cpu().numpy().tobytes())
    return digest.hexdigest()


def _check_shape(shape: tuple[int, int]) -> tuple[int, int]:
    rows, columns = shape
    if rows < 0 or columns < 0:
        raise ValueError(f"a weight cannot have shape {tuple(shape)}; sizes are 0 or more")
    return rows, columns


@numba.njit(cache=True, nogil=True)
def _count_columns(
    row_pointers: np.ndarray, column_indices: np.ndarray, columns: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    column_pointers = np.zeros(columns + 1, row_pointers.dtype)
    for column in column_indices:
        column_pointers[column + 1] += 1
    for column in range(columns):
        column_pointers[column + 1] += column_pointers[column]
    place = column_pointers[:-1].copy()
    row_indices = np.empty_like(column_indices)
    permutation = np.empty_like(column_indices)
    for row in range(row_pointers.size - 1):
        for slot in range(row_pointers[row], row_pointers[row + 1]):
            column = column_indices[slot]
            row_indices[place[column]] = row
            permutation[place[column]] = slot
            place[column] += 1
    return column_pointers, row_indices, permutation
