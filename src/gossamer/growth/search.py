"""The largest of all absent entries of a matrix that arrives in tiles: exact, and only the best so far are held."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, final, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gossamer.growth import search_loops
from gossamer.masks import largest

Tiles = Iterable[tuple[int, Tensor]]

# Candidates held beyond half as many again as are wanted, before the worst are thrown away; 12 bytes each.
_SPARE = 1 << 14
# Held candidates that are sorted to find a bar.
_SAMPLE = 1 << 12
# What every absolute value exceeds.
_NO_BAR = -1.0
# Places that are gathered before their exact numbers are computed; at least a row of a tile.
_UNSURE = 1 << 15
_NAN = "the {} holds NaN, so nothing can be grown by it; check the data and the learning rate"


@runtime_checkable
class Sampled(Protocol):
    """Tiles that can be gone through again, and some of whose entries are known beforehand."""

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        """Begin anew."""

    def sample(self) -> Tensor | None:
        """Return entries from random places, any shape, the same each time; None: there are none to be had."""


class RoughRows(Protocol):
    """Some rows of a matrix, about, as `weights.rough.RoughRows`."""

    @property
    def start(self) -> int:
        """The first row."""

    @property
    def errors(self) -> Tensor:
        """What each row is off by, times that of the column, shape [rows], float32."""

    @property
    def tiles(self) -> Iterator[tuple[int, Tensor]]:
        """(First column, a multiple of 64, and tile in bfloat16)."""

    @property
    def exact(self) -> Callable[[Tensor], Tensor]:
        """From linear indices within these rows, ascending, to the numbers there."""


class Rough(Protocol):
    """A matrix, about: no number is above 1.004 times the rough one and the errors of its row and column together."""

    column_errors: Tensor

    def rows(self) -> Iterator[RoughRows]:
        """Begin anew."""


@runtime_checkable
class Filtered(Protocol):
    """Tiles of which most entries can be ruled out sooner than they are computed."""

    def rough(self) -> Rough | None:
        """Return the filter; None where there is none."""


def largest_absent(
    tiles: Tiles,
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
            `weights.Weight.gradient_tiles`; if `Sampled` and `Filtered`, the search is faster and finds the same.
        kept: linear indices that are active, ascending, shape [n], int64.
        closed_rows: bool, shape [rows]; where nothing grows.
        closed_columns: bool, shape [columns], likewise.
        count: how many.
        what: the tiles, as an error calls them.

    Returns:
        Linear indices, ascending, shape [count], int64.

    Raises:
        ValueError: a tile holds NaN, or fewer than `count` entries are absent.

    Cost: one pass over each tile while it is in the cache; 12 (1.5 count + 16,384) bytes beside one tile.
    """
    if not count:
        return kept.new_empty(0)
    closed = closed_rows, closed_columns
    bar = _guess(tiles.sample(), kept, *closed, count) if isinstance(tiles, Sampled) else _NO_BAR
    best = _Best(kept, *closed, count, bar=bar)
    rough = tiles.rough() if bar > _NO_BAR and isinstance(tiles, Filtered) else None
    if rough is None:
        best.offer_all(tiles, what)
    else:
        best.offer_rough(rough, what)
    if best.num_held < count and bar > _NO_BAR:
        # The sample misled: what it kept out competes after all.
        best = _Best(kept, *closed, count, bar=_NO_BAR)
        best.offer_all(tiles, what)
    if best.num_held < count:
        raise ValueError(f"cannot grow {count} weights where {best.num_held} are absent; lower the number to grow")
    return best.indices[:count].sort().values if kept.device.type != "cpu" else _sorted(best.indices[:count])


def _guess(sample: Tensor | None, kept: Tensor, closed_rows: Tensor, closed_columns: Tensor, count: int) -> float:
    """Return a bar that somewhat more than `count` absent entries exceed, if the sample is like them."""
    absent = closed_rows.numel() * closed_columns.numel() - kept.numel()
    if sample is None or count >= absent:
        return _NO_BAR
    scores = sample.detach().abs().float().flatten().cpu().numpy()
    wanted = count / absent * scores.size
    # A quarter more, and four deviations, as rows and columns differ.
    rank = int(1.25 * wanted + 4 * wanted**0.5) + 1
    if rank > scores.size:
        return _NO_BAR
    # Just below it, so that its equals enter.
    return float(np.nextafter(np.partition(scores, scores.size - rank)[scores.size - rank], np.float32(-np.inf)))


def _sorted(indices: Tensor) -> Tensor:
    # By numpy, whose sort of integers is several times faster.
    return torch.from_numpy(np.sort(indices.numpy()))


@final
class _Best:
    """The best candidates so far, in no order; more than are wanted until the next `trim`."""

    def __init__(self, kept: Tensor, closed_rows: Tensor, closed_columns: Tensor, count: int, *, bar: float) -> None:
        self._kept, self._count = kept.contiguous(), count
        self._closed_rows, self._closed_columns = closed_rows, closed_columns
        room = min(count + count // 2 + _SPARE, closed_rows.numel() * closed_columns.numel() + search_loops.AT_ONCE)
        self.num_held = 0
        self.scores = torch.empty(room, device=kept.device)
        self.indices = torch.empty(room, dtype=torch.int64, device=kept.device)
        # What a score must exceed, or equal at an index that is lower than this one.
        self._bar, self._last = bar, -1

    def offer_all(self, tiles: Tiles, what: str) -> None:
        """Take the best of all tiles.

        Raises:
            ValueError: one holds NaN.
        """
        on_cpu = self._kept.device.type == "cpu"
        offer = self.offer if on_cpu else self.offer_anywhere
        for first, tile in tiles:
            if not offer(first, tile):
                raise ValueError(_NAN.format(what))
        if on_cpu:
            self.trim()

    def offer_rough(self, rough: Rough, what: str) -> None:
        """Take the best of a matrix of which first the rough numbers and then, where these reach, the exact ones count.

        Raises:
            ValueError: an exact one is NaN.
        """
        width, places = self._closed_columns.numel(), np.empty(_UNSURE, np.int64)
        closed = self._closed_rows.numpy(), self._closed_columns.numpy()
        errors = np.maximum.reduceat(rough.column_errors.numpy(), np.arange(0, width, search_loops.GROUP))
        for rows in rough.rows():
            found = 0
            for left, tile in rows.tiles:
                place, numbers = 0, tile.view(torch.uint16).numpy()
                while place < tile.numel():
                    first = rows.start * width + left
                    found, place = search_loops.scan_rough(
                        *(numbers, place, first, rows.errors.numpy(), errors, *closed, self._kept.numpy()),
                        *(np.float32(self._bar), places, found),
                    )
                    if place < tile.numel():
                        self._resolve(rows, places[:found], what)
                        found = 0
            self._resolve(rows, places[:found], what)
        self.trim()

    def _resolve(self, rows: RoughRows, places: NDArray[np.int64], what: str) -> None:
        """Compute the exact numbers at some places and take what may be among the best."""
        indices = np.sort(places)
        first = rows.start * self._closed_columns.numel()
        values, done = rows.exact(torch.from_numpy(indices - first)).numpy(), 0
        while done < values.size:
            held, done = search_loops.enter(
                *(values, indices, done, np.float32(self._bar), self._last),
                *(self.scores.numpy(), self.indices.numpy(), self.num_held),
            )
            if held < 0:
                raise ValueError(_NAN.format(what))
            self.num_held = held
            if done < values.size:
                self._make_room()

    def offer(self, first: int, tile: Tensor) -> bool:
        """Take what may be among the best; False at a NaN."""
        tile = (tile if tile.dtype in (torch.float32, torch.float64) else tile.float()).detach().contiguous()
        place = 0
        while place < tile.numel():
            held, place = search_loops.scan(
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
        place = scores.numel() - self._count
        bar = np.partition(scores.numpy(), place)[place]
        ties = indices.numpy()[scores.numpy() == bar]
        spare = self._count - search_loops.num_above(scores.numpy(), bar)
        self._raise_bar(float(bar), int(np.partition(ties, spare - 1)[spare - 1]))

    def _make_room(self) -> None:
        """Throw away what is surely not among the best, by a bar that enough of a sample exceed."""
        scores = self.scores[: self.num_held].numpy()
        sample = np.sort(scores[:: max(1, scores.size // _SAMPLE)])
        # Four deviations of the rank below the count.
        rank = int(self._count / scores.size * sample.size + 2 * sample.size**0.5) + 1
        bar = sample[max(0, sample.size - 1 - rank)]
        if search_loops.num_above(scores, bar) >= self._count:
            self._raise_bar(float(bar), -1)
        # Equal scores, or a sample that misleads, leave too much.
        if self.num_held > self._count + (scores.size - self._count) // 2:
            self.trim()

    def _raise_bar(self, bar: float, last: int) -> None:
        self._bar, self._last = bar, last
        held = slice(self.num_held)
        self.num_held = search_loops.compact(
            self.scores[held].numpy(), self.indices[held].numpy(), np.float32(bar), last
        )

    def _trim_anywhere(self) -> None:
        indices, order = self.indices.sort()
        scores = self.scores[order]
        chosen = largest(scores, self._count)
        self.scores, self.indices, self.num_held = scores[chosen], indices[chosen], self._count
        bar = self.scores.min()
        self._bar, self._last = float(bar), int(self.indices[self.scores == bar].max())
