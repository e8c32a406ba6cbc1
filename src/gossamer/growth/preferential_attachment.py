"""Preferential attachment: new weights lead from and to neurons that have many already."""

from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from gossamer.growth.places import open_only

Ints = NDArray[np.int64]


def preferential_attachment(
    kept: Tensor, closed_rows: Tensor, closed_columns: Tensor, *, count: int, generator: torch.Generator
) -> Tensor:
    """Draw absent entries one after the other, each in proportion to how well its two neurons are connected.

    P(i, j) ~ (d_i + 1) (e_j + 1) over the entries that are absent and not drawn yet

    d_i, e_j: number of kept entries in row i and in column j, as they were before the first is drawn. The ones let a
    neuron without a weight have one again.

    Args:
        kept: linear indices that are active, ascending, shape [n], int64.
        closed_rows: bool, shape [rows]; where nothing grows, and what is kept there does not count.
        closed_columns: bool, shape [columns], likewise.
        count: how many.
        generator: source of randomness, on the CPU.

    Returns:
        Linear indices, ascending, shape [count], int64.

    Raises:
        ValueError: fewer than `count` entries are absent.

    Source:
        Barabasi, Albert. Emergence of scaling in random networks. Science 1999, arXiv:cond-mat/9910332: links prefer
        nodes of high degree. As a growth rule of networks: Hoefler, Alistarh, Ben-Nun, Dryden, Peste. Sparsity in deep
        learning. JMLR 2021, arXiv:2102.00554.
        Differs: both ends of a weight are drawn by degree, as both exist already.

    Cost: O(n + count + rows + columns) memory, whatever the number of absent entries; time as much, times log(n) for
    each draw, in a few rounds.

    Example:
        >>> none = torch.zeros(2, dtype=torch.bool)
        >>> preferential_attachment(torch.tensor([0, 3]), none, none, count=2, generator=torch.Generator())
        tensor([1, 2])
    """
    active = open_only(kept, closed_rows, closed_columns).cpu().numpy()
    open_rows, open_columns = (~closed_rows).cpu().numpy(), (~closed_columns).cpu().numpy()
    absent = int(open_rows.sum()) * int(open_columns.sum()) - active.size
    if not 0 <= count <= absent:
        raise ValueError(f"cannot grow {count} weights where {absent} are absent; lower the number to grow")
    width = max(1, open_columns.size)
    by_row = (np.bincount(active // width, minlength=open_rows.size) + 1) * open_rows
    by_column = (np.bincount(active % width, minlength=open_columns.size) + 1) * open_columns
    grown = np.empty(0, np.int64)
    while grown.size < count:
        # What was drawn is out from now on: a round that begins anew draws from what is left, as one long draw would.
        taken = np.sort(np.concatenate([active, grown]))
        drawn = _draw(_chances(taken, by_row, by_column), count - grown.size, generator)
        _, first = np.unique(drawn, return_index=True)
        grown = np.concatenate([grown, drawn[np.sort(first)]])
    return torch.from_numpy(np.sort(grown)).to(kept.device)


class _Chances(NamedTuple):
    """Sums by which an entry that is not taken is found from one random integer; all are exact.

    Attributes:
        rows: share of all rows before row r in what is not taken, shape [rows + 1].
        by_row: the factor of each row, shape [rows].
        columns: sum of the factors of all columns before column c, shape [columns + 1].
        pointers: what is taken in row r stands at [pointers[r], pointers[r + 1]).
        taken: its columns.
        before: sum of the factors of the columns taken in its row before it.
    """

    rows: Ints
    by_row: Ints
    columns: Ints
    pointers: Ints
    taken: Ints
    before: Ints


def _chances(taken: Ints, by_row: Ints, by_column: Ints) -> _Chances:
    row, column = np.divmod(taken, max(1, by_column.size))
    pointers = _sums(np.bincount(row, minlength=by_row.size))
    factors = _sums(by_column[column])
    within = factors[pointers[1:]] - factors[pointers[:-1]]
    columns = _sums(by_column)
    return _Chances(
        rows=_sums(by_row * (columns[-1] - within)),
        by_row=by_row,
        columns=columns,
        pointers=pointers,
        taken=column,
        before=factors[:-1] - factors[pointers[row]],
    )


def _sums(parts: Ints) -> Ints:
    """Return the sums of all parts before each, and of all."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(parts, dtype=np.int64)])


def _draw(chances: _Chances, count: int, generator: torch.Generator) -> Ints:
    """Draw entries that are not taken, one independent of the other."""
    numbers = torch.randint(int(chances.rows[-1]), (count,), generator=generator, device="cpu").numpy()
    row = np.searchsorted(chances.rows, numbers, side="right") - 1
    entries = np.empty(count, np.int64)
    _find(row, (numbers - chances.rows[row]) // chances.by_row[row], *chances[2:], entries)
    return entries


@njit(cache=True, nogil=True, error_model="numpy")
def _find(row: Ints, share: Ints, columns: Ints, pointers: Ints, taken: Ints, before: Ints, entries: Ints) -> None:
    """Write the entry of each row that a share of what is not taken there leads to."""
    width = columns.size - 1
    for i in range(row.size):
        low, high = pointers[row[i]], pointers[row[i] + 1]
        while low < high:
            middle = (low + high) // 2
            # What is not taken before this one.
            if columns[taken[middle]] - before[middle] <= share[i]:
                low = middle + 1
            else:
                high = middle
        place = share[i]
        if low > pointers[row[i]]:
            place += before[low - 1] + columns[taken[low - 1] + 1] - columns[taken[low - 1]]
        entries[i] = row[i] * width + np.searchsorted(columns, place, side="right") - 1
