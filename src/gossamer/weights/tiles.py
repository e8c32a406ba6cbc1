"""The dense gradient in tiles, so that it never exists as a whole."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, final

import torch
import torch.distributed as dist
from torch import Tensor

from gossamer import sampling
from gossamer.growth.search import Rough

# Bytes of a tile: what is multiplied out is searched while it is in the second cache, two of them if need be.
TILE_BYTES = 1 << 20
# Columns of a tile where there are more: then each row of inputs that is read serves many rows of the tile.
TILE_COLUMNS = 1 << 10
# Rows, and columns, of a sample.
_LINES = 512


class Tile(NamedTuple):
    """A rectangle of a matrix.

    Attributes:
        start, stop: its rows.
        left, right: its columns.
    """

    start: int
    stop: int
    left: int
    right: int


def tiles(
    rows: int, columns: int, *, itemsize: int, most_columns: int | None = None, whole_rows: bool = False
) -> Iterator[Tile]:
    """Cut a matrix into tiles of at most `TILE_BYTES` each, however wide it is.

    Args:
        rows: of the matrix.
        columns: of the matrix.
        itemsize: bytes of an entry; less than four count as four, the size at which they are compared.
        most_columns: columns of a tile at most. Default: whole rows, as far as they fit.
        whole_rows: whether rows are never cut; then one that is longer than a tile is one by itself.
    """
    numbers = max(1, TILE_BYTES // max(4, itemsize))
    width = max(1, min(columns, numbers, numbers if most_columns is None else most_columns))
    width = max(1, columns) if whole_rows else width
    height = max(1, numbers // width)
    for start in range(0, rows, height):
        for left in range(0, columns, width):
            yield Tile(start, min(start + height, rows), left, min(left + width, columns))


@final
class GradientTiles:
    """The dense gradient in tiles, as often as it is gone through, and a sample of it.

    Args:
        make: returns the tiles from the first one on.
        sample: (rows, columns), each ascending, int64 -> the gradient where they cross; None: that would take long.
        shape: of the matrix.
        rough: returns a filter, see `rough.RoughGradient`, or None.
    """

    def __init__(
        self,
        make: Callable[[], Iterator[tuple[int, Tensor]]],
        sample: Callable[[Tensor, Tensor], Tensor] | None,
        shape: tuple[int, int],
        rough: Callable[[], Rough | None] | None = None,
    ) -> None:
        self._make, self._sample, self._shape, self._rough = make, sample, shape, rough

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        """Begin anew."""
        return self._make()

    def sample(self) -> Tensor | None:
        """Return the gradient where some rows and some columns cross, an eighth of each at most, the same each time."""
        if self._sample is None:
            return None
        # Only the time of a search depends on which.
        generator = torch.Generator().manual_seed(0)
        lines = (sampling.distinct(size, min(size // 8, _LINES), generator=generator) for size in self._shape)
        return self._sample(*lines)

    def rough(self) -> Rough | None:
        """Return a filter that rules out most entries sooner than they are computed, if there is one."""
        return self._rough() if self._rough is not None else None


def trains_together() -> bool:
    """Return whether this is one of several processes of torch.distributed."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def over_ranks(tile: Tensor) -> Tensor:
    """Sum over the processes that train together, so that all of them grow the same weights."""
    if trains_together():
        tile = tile.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(tile)
    return tile


def unseen(name: str) -> str:
    """Say that a weight's gradient was not recorded."""
    return (
        f"no gradient of {name} was seen since the last step; the layer must take part in a backward pass before "
        "sparsifier.step(), and a model under torch.compile must be compiled after the sparsifier is made"
    )
