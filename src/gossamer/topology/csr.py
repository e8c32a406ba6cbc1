"""Which entries of a weight exist: CSR and its transpose, in memory that follows the active entries alone."""

import hashlib
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gossamer import sampling
from gossamer.topology import loops

_INT32_MAX = 2**31 - 1
# Fewer columns than this: where each one's next entry goes is written within the second cache.
_MANY_COLUMNS = 1 << 14

# Numbers of any kind are moved as integers of their size: numpy has no bfloat16.
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


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
    dtype = index_dtype(shape, linear.numel())
    if linear.device.type == "cpu":
        pointers, indices = _empty(rows + 1, dtype), _empty(linear.numel(), dtype)
        fits = loops.split(linear.detach().contiguous().numpy(), columns, pointers.numpy(), indices.numpy())
    else:
        fits = not linear.numel() or (int(linear[0]) >= 0 and int(linear[-1]) < rows * columns)
        fits = fits and bool((linear[1:] > linear[:-1]).all())
        row_of = linear.div(max(columns, 1), rounding_mode="floor")
        pointers = torch.searchsorted(row_of, torch.arange(rows + 1, device=linear.device)).to(dtype)
        indices = (linear - row_of * columns).to(dtype)
    if not fits:
        raise ValueError(
            f"linear indices run from {int(linear[0])} to {int(linear[-1])}; they must ascend without repeats within "
            f"[0, {rows * columns}) for a {rows} x {columns} weight: sort them, drop the repeats"
        )
    return Topology((rows, columns), pointers, indices)


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
    shape = (mask.shape[0], mask.shape[1])
    active = mask.detach() if mask.dtype == torch.bool else mask.detach() != 0
    if active.device.type != "cpu":
        return from_linear(active.flatten().nonzero().flatten(), shape)
    num_active = int(active.count_nonzero())
    dtype = index_dtype(shape, num_active)
    pointers, indices = _empty(shape[0] + 1, dtype), _empty(num_active, dtype)
    loops.find(active.contiguous().view(torch.uint8).numpy(), pointers.numpy(), indices.numpy())
    return Topology(shape, pointers, indices)


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

    Cost: O(num_active + rows), no dense detour; memory: what is returned, and one byte more for each entry.

    Example:
        >>> erdos_renyi((4, 4), 16, generator=torch.Generator()).num_active
        16
    """
    rows, columns = _check_shape(shape)
    dtype = index_dtype(shape, num_active)
    if dtype == torch.int64 or 2 * num_active > rows * columns:
        return from_linear(sampling.distinct(rows * columns, num_active, generator=generator), shape)
    starts, offsets, shift = sampling.draw(rows * columns, num_active, generator=generator)
    pointers = _empty(rows + 1, dtype)
    # What is at most 32 bits wide makes room for the column that it leads to.
    indices = offsets.view(np.int32) if offsets.dtype == np.uint32 else np.empty(num_active, np.int32)
    loops.place(starts, offsets, shift, columns, pointers.numpy(), indices)
    return Topology((rows, columns), pointers, torch.from_numpy(indices))


def linear_indices(topology: Topology) -> Tensor:
    """Return row * columns + column of each entry, ascending, shape [num_active], int64."""
    if topology.column_indices.device.type != "cpu":
        return row_indices(topology) * topology.shape[1] + topology.column_indices
    linear = _empty(topology.num_active, torch.int64)
    loops.join(topology.row_pointers.numpy(), topology.column_indices.numpy(), topology.shape[1], linear.numpy())
    return linear


def row_indices(topology: Topology) -> Tensor:
    """Return the row of each entry, ascending, shape [num_active], int64."""
    if topology.column_indices.device.type != "cpu":
        return torch.repeat_interleave(topology.row_pointers.diff().long(), output_size=topology.num_active)
    rows = _empty(topology.num_active, torch.int64)
    loops.repeat(topology.row_pointers.numpy(), rows.numpy())
    return rows


def slots_of(places: Tensor, active: Tensor) -> Tensor:
    """Return where each place stands among the active ones, or -1 where it is absent.

    Args:
        places: linear indices, ascending, shape [n], int64.
        active: linear indices, ascending without repeats, shape [num_active], int64.

    Returns:
        Shape [n], int64.

    Cost: O(n + num_active) on the CPU.

    Example:
        >>> slots_of(torch.tensor([2, 3, 7]), torch.tensor([1, 3, 7]))
        tensor([-1,  1,  2])
    """
    if places.device.type == "cpu":
        slots = _empty(places.numel(), torch.int64)
        loops.locate(places.contiguous().numpy(), active.contiguous().numpy(), slots.numpy())
        return slots
    if not active.numel():
        return torch.full_like(places, -1)
    slots = torch.searchsorted(active, places).clamp(max=active.numel() - 1)
    return torch.where(active[slots] == places, slots, -1)


def exchange(topology: Topology, kept: Tensor, grown: Tensor) -> tuple[Topology, Tensor]:
    """Keep some entries and add others, in one pass over both.

    Args:
        topology: what exists before.
        kept: slots that stay, ascending, shape [k], int64.
        grown: linear indices of the others, ascending, none of them among the kept, shape [g], int64.

    Returns:
        What exists after, and where each of its entries comes from: the slot it had, or -1 - i for the i-th grown one,
        shape [k + g], dtype of the indices.

    Raises:
        ValueError: the indices do not ascend or are out of range, or a grown one is among the kept.

    Cost: O(num_active + rows); no sort on the CPU.

    Example:
        >>> places, source = exchange(from_mask(torch.eye(2)), torch.tensor([1]), torch.tensor([1]))
        >>> places.column_indices, source
        (tensor([1, 1], dtype=torch.int32), tensor([-1,  1], dtype=torch.int32))
    """
    shape, count = topology.shape, kept.numel() + grown.numel()
    if topology.column_indices.device.type != "cpu":
        linear, order = torch.cat([linear_indices(topology)[kept], grown]).sort()
        source = torch.cat([kept, -1 - torch.arange(grown.numel(), device=grown.device)])[order]
        return from_linear(linear, shape), source.to(index_dtype(shape, max(count, topology.num_active)))
    dtype = index_dtype(shape, max(count, topology.num_active))
    old = (topology.row_pointers.to(dtype).numpy(), topology.column_indices.to(dtype).numpy())
    pointers, indices, source = _empty(shape[0] + 1, dtype), _empty(count, dtype), _empty(count, dtype)
    added = grown.contiguous().numpy()
    if not loops.merge(
        *old, kept.contiguous().numpy(), added, shape[1], pointers.numpy(), indices.numpy(), source.numpy()
    ):
        raise ValueError(
            f"cannot keep {kept.numel()} of {topology.num_active} entries and add {grown.numel()}: both must ascend "
            f"without repeats, within a {shape[0]} x {shape[1]} weight, and what is added must not be there already"
        )
    final = index_dtype(shape, count)
    return Topology(shape, pointers.to(final), indices.to(final)), source


def gather(numbers: Tensor, source: Tensor, grown: Tensor | None = None) -> Tensor:
    """Move one number of each entry along with an `exchange`.

    Args:
        numbers: one for each entry before, shape [num_active], any dtype.
        source: where each entry after comes from, see `exchange`, shape [n].
        grown: one for each grown entry, shape [g], same dtype. Default: zeros.

    Returns:
        One for each entry after, shape [n], dtype of the numbers.

    Example:
        >>> gather(torch.tensor([5.0, 6.0]), torch.tensor([-1, 1]), torch.tensor([7.0]))
        tensor([7., 6.])
    """
    if numbers.device.type != "cpu" or numbers.element_size() not in _BITS:
        later = numbers.new_zeros(1) if grown is None else grown
        both = torch.cat([numbers, later])
        return both[torch.where(source < 0, numbers.numel() - 1 - source if grown is not None else -1, source)]
    result = numbers.new_empty(source.shape)
    bits = _BITS[numbers.element_size()]
    before, later = (part.contiguous().view(bits) for part in (numbers, numbers[:0] if grown is None else grown))
    loops.follow(before.numpy(), later.numpy(), source.numpy(), result.view(bits).numpy())
    return result


def transpose(topology: Topology) -> Transpose:
    """Order the entries by columns, by counting: O(num_active + columns) on the CPU.

    Cost: where the columns are many, two bytes of memory an entry beside what is returned.

    Example:
        >>> transpose(from_mask(torch.tensor([[0, 1], [1, 1]]))).permutation
        tensor([1, 0, 2], dtype=torch.int32)
    """
    pointers, columns = topology.row_pointers, topology.column_indices
    if columns.device.type == "cpu":
        sizes = (topology.shape[1] + 1, topology.num_active, topology.num_active)
        result = Transpose(*(_empty(size, columns.dtype) for size in sizes))
        operands = [part.numpy() for part in (pointers, columns, *result)]
        if topology.shape[1] < _MANY_COLUMNS:
            loops.count_columns(*operands)
        else:
            loops.count_in_buckets(*operands)
        return result
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
    if columns.device.type == "cpu":
        ascends = loops.ascends(pointers.contiguous().numpy(), columns.contiguous().numpy())
    else:
        ascends = bool((linear_indices(topology).diff() > 0).all())
    if not ascends:
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


def _empty(size: int, dtype: torch.dtype) -> Tensor:
    # By numpy, which asks the system for large pages: first touching them takes a third of the time.
    return torch.from_numpy(np.empty(size, np.int32 if dtype == torch.int32 else np.int64))
