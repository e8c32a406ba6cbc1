"""The dense gradient in stretches of rows, so that it never exists as a whole."""

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor

# Numbers of the dense gradient that exist at once.
TILE_NUMBERS = 1 << 20


def row_tiles(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of stretches of rows with about `TILE_NUMBERS` entries each."""
    step = max(1, TILE_NUMBERS // max(1, columns))
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


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
