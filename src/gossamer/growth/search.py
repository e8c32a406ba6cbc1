"""The largest of all absent entries of a matrix that arrives in tiles: exact, and only the best so far are held."""

from collections.abc import Iterable
from typing import final

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from gossamer import ranking
from gossamer.masks import largest

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

# Candidates beyond twice the number wanted that are held before the worst are thrown away, 12 bytes each.
_SPARE = 1 << 14
# Entries compared with the bar at once.
_AT_ONCE = 64
# Held candidates that are sorted to find a bar.
_SAMPLE = 1 << 12


def largest_absent(
    tiles: Iterable[tuple[int, Tensor]],
    kept: Tensor,
    closed_rows: Tensor,
    closed_columns: Tensor,
    *,
    count: int,
    what: str,
) -> Tensor:
    """Choose the `count` absent entries that are largest in absolute value; ties go to the lower index.

    Args:
        tiles: (first linear index, tile [rows, columns]) in any order, each entry once, see
            `weights.Weight.gradient_tiles`.
        kept: linear indices that are active, ascending, shape [n], int64.
        closed_rows: bool, shape [rows]; where nothing grows.
        closed_columns: bool, shape [columns], likewise.
        count: how many.
        what: the tiles, as an error calls them.

    Returns:
        Linear indices, ascending, shape [count], int64.

    Raises:
        ValueError: a tile holds NaN, or fewer than `count` entries are absent.

    Cost: one pass over each tile while it is in the cache; 12 (2 count + 16,384) bytes beside one tile.
    """
    if not count:
        return kept.new_empty(0)
    best = _Best(kept, closed_rows, closed_columns, count)
    offer = best.offer if kept.device.type == "cpu" else best.offer_anywhere
    for first, tile in tiles:
        if not offer(first, tile):
            raise ValueError(
                f"the {what} holds NaN, so nothing can be grown by it; check the data and the learning rate"
            )
    if kept.device.type == "cpu":
        best.trim()
    if best.num_held < count:
        raise ValueError(f"cannot grow {count} weights where {best.num_held} are absent; lower the number to grow")
    if kept.device.type == "cpu":
        return torch.from_numpy(np.sort(best.indices[:count].numpy()))
    return best.indices.sort().values


@final
class _Best:
    """The best candidates so far, in no order; more than are wanted until the next `trim`."""

    def __init__(self, kept: Tensor, closed_rows: Tensor, closed_columns: Tensor, count: int) -> None:
        self._kept, self._count = kept.contiguous(), count
        self._closed_rows, self._closed_columns = closed_rows, closed_columns
        room = min(2 * count + _SPARE, closed_rows.numel() * closed_columns.numel() + _AT_ONCE)
        self.num_held = 0
        self.scores = torch.empty(room, device=kept.device)
        self.indices = torch.empty(room, dtype=torch.int64, device=kept.device)
        # What a score must exceed, or equal at an index that is lower than this one.
        self._bar, self._last = -1.0, -1

    def offer(self, first: int, tile: Tensor) -> bool:
        """Take what may be among the best; False at a NaN."""
        tile = (tile if tile.dtype in (torch.float32, torch.float64) else tile.float()).detach().contiguous()
        place = 0
        while place < tile.numel():
            held, place = _scan(
                tile.numpy(),
                place,
                first,
                self._closed_rows.numpy(),
                self._closed_columns.numpy(),
                self._kept.numpy(),
                np.float32(self._bar),
                self._last,
                self.scores.numpy(),
                self.indices.numpy(),
                self.num_held,
            )
            if held < 0:
                return False
            self.num_held = held
            if place < tile.numel():
                self._make_room()
        return True

    def offer_anywhere(self, first: int, tile: Tensor) -> bool:
        """Do the same in plain PyTorch, on any device."""
        scores = tile.detach().abs().float()
        if bool(scores.isnan().any()):
            return False
        width = self._closed_columns.numel()
        rows, columns = (torch.arange(size, device=tile.device) for size in tile.shape)
        indices = first + rows[:, None] * width + columns
        absent = ~(self._closed_rows[indices // max(1, width)] | self._closed_columns[indices % max(1, width)])
        if self._kept.numel():
            slots = torch.searchsorted(self._kept, indices).clamp(max=self._kept.numel() - 1)
            absent &= self._kept[slots] != indices
        absent &= (scores > self._bar) | ((scores == self._bar) & (indices < self._last))
        self.scores = torch.cat([self.scores[: self.num_held], scores[absent]])
        self.indices = torch.cat([self.indices[: self.num_held], indices[absent]])
        self.num_held = self.indices.numel()
        if self.num_held > self._count:
            self._trim_anywhere()
        return True

    def trim(self) -> None:
        """Throw away all but the best."""
        if self.num_held <= self._count:
            return
        scores, indices = self.scores[: self.num_held], self.indices[: self.num_held]
        bar = ranking.kth_largest([scores], self._count)
        ties = indices[scores == bar].numpy()
        spare = self._count - _num_above(scores.numpy(), np.float32(bar))
        self._raise_bar(float(bar), int(np.partition(ties, spare - 1)[spare - 1]))

    def _make_room(self) -> None:
        """Throw away what is surely not among the best, by a bar that enough of a sample exceed."""
        scores = self.scores[: self.num_held].numpy()
        sample = np.sort(scores[:: max(1, scores.size // _SAMPLE)])
        # Four deviations of the rank below the count.
        rank = int(self._count / scores.size * sample.size + 2 * sample.size**0.5) + 1
        bar = sample[max(0, sample.size - 1 - rank)]
        if _num_above(scores, bar) >= self._count:
            self._raise_bar(float(bar), -1)
        # Equal scores, or a sample that misleads, leave too much.
        if self.num_held > self._count + (scores.size - self._count) // 2:
            self.trim()

    def _raise_bar(self, bar: float, last: int) -> None:
        self._bar, self._last = bar, last
        held = slice(self.num_held)
        self.num_held = _compact(self.scores[held].numpy(), self.indices[held].numpy(), np.float32(bar), last)

    def _trim_anywhere(self) -> None:
        indices, order = self.indices.sort()
        scores = self.scores[order]
        chosen = largest(scores, self._count)
        self.scores, self.indices, self.num_held = scores[chosen], indices[chosen], self._count
        bar = self.scores.min()
        self._bar, self._last = float(bar), int(self.indices[self.scores == bar].max())


@njit(cache=True, nogil=True, error_model="numpy")
def _scan(
    tile: Floats,
    place: int,
    first: int,
    closed_rows: Flags,
    closed_columns: Flags,
    kept: Ints,
    bar: np.float32,
    last: int,
    scores: NDArray[np.float32],
    indices: Ints,
    held: int,
) -> tuple[int, int]:
    """Add candidates from a place of the tile on; return how many are held, -1 for a NaN, and where it stopped."""
    rows, columns = tile.shape
    width = closed_columns.size
    spots = np.empty(_AT_ONCE + 1, np.int64)
    column = place % columns
    for row in range(place // columns, rows):
        start = first + row * width
        # A score that equals the bar can only enter where indices are low enough.
        floor = bar if start + column >= last else np.nextafter(bar, np.float32(-np.inf))
        slot = -1
        line = tile[row]
        while column < columns:
            stop = min(column + _AT_ONCE, columns)
            if stop - column < _AT_ONCE or _any_above(line[column:stop], floor):
                if held + _AT_ONCE > scores.size:
                    return held, row * columns + column
                found = _find(line[column:stop], floor, spots)
                held, slot = _enter(
                    line[column:stop],
                    start + column,
                    spots[:found],
                    closed_rows,
                    closed_columns,
                    kept,
                    slot,
                    scores,
                    indices,
                    held,
                )
                if held < 0:
                    return held, 0
            column = stop
        column = 0
    return held, tile.size


# Both are written so that a NaN counts, and without a branch, so that they run in vector registers or nearly so.


@njit(cache=True, nogil=True, error_model="numpy")
def _any_above(part: Floats, floor: np.float32) -> bool:
    above = np.int32(0)
    for i in range(_AT_ONCE):
        above += np.int32(not (np.float32(np.abs(part[i])) <= floor))
    return bool(above)


@njit(cache=True, nogil=True, error_model="numpy")
def _find(part: Floats, floor: np.float32, spots: Ints) -> int:
    """Write where a part exceeds the floor; return how often."""
    found = 0
    for i in range(part.size):
        spots[np.uint64(found)] = i
        found += not (np.float32(np.abs(part[i])) <= floor)
    return found


@njit(cache=True, nogil=True, error_model="numpy")
def _enter(
    part: Floats,
    start: int,
    spots: Ints,
    closed_rows: Flags,
    closed_columns: Flags,
    kept: Ints,
    slot: int,
    scores: NDArray[np.float32],
    indices: Ints,
    held: int,
) -> tuple[int, int]:
    """Add what is open and absent; return how many are held, and where in `kept` it is."""
    row = start // closed_columns.size
    offset = start - row * closed_columns.size
    for spot in spots:
        score, index = np.float32(np.abs(part[spot])), start + spot
        if score != score:
            return -1, slot
        if slot < 0:
            slot = np.searchsorted(kept, index)
        while slot < kept.size and kept[slot] < index:
            slot += 1
        is_kept = slot < kept.size and kept[slot] == index
        scores[held] = score
        indices[held] = index
        held += not (is_kept or closed_rows[row] or closed_columns[offset + spot])
    return held, slot


@njit(cache=True, nogil=True, error_model="numpy")
def _num_above(scores: NDArray[np.float32], bar: np.float32) -> int:
    above = 0
    for i in range(scores.size):
        above += scores[i] > bar
    return above


@njit(cache=True, nogil=True, error_model="numpy")
def _compact(scores: NDArray[np.float32], indices: Ints, bar: np.float32, last: int) -> int:
    """Move what is above the bar, or equals it at an index up to the last, to the front; return how many."""
    found = 0
    for i in range(scores.size):
        score, index = scores[i], indices[i]
        scores[found] = score
        indices[found] = index
        found += (score > bar) | ((score == bar) & (index <= last))
    return found
