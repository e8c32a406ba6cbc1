"""What an update sees of a weight, whether it is masked or truly sparse.

Slots are places among the active weights: slot k is the k-th active entry in the order of linear indices.
"""

import math
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer.weights.tiles import GradientTiles


class Weight(Protocol):
    """What an update sees of a weight; it never asks how the weight is stored.

    Attributes:
        name: where the weight stands in the model.
        shape: shape of the dense tensor, (out, in, ...).
        parameter: the tensor that the optimizer holds.
        closed_rows, closed_columns: bool, outputs and inputs that are removed for good: nothing grows there.
    """

    name: str
    shape: tuple[int, ...]
    closed_rows: Tensor
    closed_columns: Tensor

    @property
    def parameter(self) -> nn.Parameter:
        """The tensor that the optimizer holds."""

    @property
    def num_active(self) -> int:
        """Number of weights that exist."""

    def indices(self) -> Tensor:
        """Return the linear index of each active weight, ascending, shape [num_active], int64."""

    def values(self) -> Tensor:
        """Return the active weights in the order of `indices`, detached, shape [num_active]."""

    def set_values_(self, values: Tensor) -> None:
        """Give the active weights other values, in the order of `indices`, shape [num_active]; state stays."""

    def gradient(self) -> Tensor:
        """Return the gradient of the active weights as the optimizer saw it, in the order of `indices`.

        Raises:
            RuntimeError: it is gone, or there was none.
        """

    def change_(self, kept: Tensor, grown: Tensor, grown_values: Tensor, optimizer: Optimizer | None) -> None:
        """Keep some active weights, add others, and move the optimizer's state along.

        Args:
            kept: slots that stay, ascending, shape [k], int64.
            grown: linear indices to activate, ascending, none of them among the kept, shape [g], int64.
            grown_values: their values, shape [g].
            optimizer: what holds state of the parameter: survivors keep theirs, grown weights start with zero.
        """

    def watch(self) -> None:
        """Record from now on what the dense gradient needs, once attached."""

    def unwatch(self) -> None:
        """Stop recording and forget."""

    def gradient_tiles(self, *, whole_rows: bool = False) -> GradientTiles:
        """Return the dense gradient in tiles: (first linear index, [rows, columns]), made as they are gone through.

        Entry (i, j) of a tile has the linear index first + i * width + j, where `width` is the size of
        `closed_columns`. A tile holds whole rows, or a part of the columns where rows are long; together they hold
        every entry once, in a fixed order. A tile takes at most `tiles.TILE_BYTES`; with `whole_rows` no row is cut,
        and one that is longer is a tile by itself.

        It is summed over the backward passes since `watch` and, as the gradient itself, since the last zero_grad(),
        and over the processes that train together.

        Raises:
            RuntimeError: no backward pass was seen; when the first tile is asked for.
        """

    def gradient_at(self, indices: Tensor) -> Tensor:
        """Return the dense gradient at some entries, active or not, summed as that of `gradient_tiles` is.

        Args:
            indices: linear indices, ascending, shape [n], int64; the same in all processes that train together.

        Returns:
            Shape [n], floating.

        Raises:
            RuntimeError: no backward pass was seen.
        """


def numel(weight: Weight) -> int:
    """Return the number of entries of the dense tensor."""
    return math.prod(weight.shape)


def num_open(weight: Weight) -> int:
    """Return how many entries are neither in a closed row nor in a closed column."""
    return int((~weight.closed_rows).sum()) * int((~weight.closed_columns).sum())


def nothing_closed(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return closed rows and closed columns of a weight of which nothing is removed."""
    columns = math.prod(shape[1:])
    return (
        torch.zeros(shape[0], dtype=torch.bool, device=device),
        torch.zeros(columns, dtype=torch.bool, device=device),
    )


def cleared(name: str) -> str:
    """Say that a weight has no gradient."""
    return (
        f"{name} has no gradient after the optimizer's step; the layer must take part in the backward pass, and "
        "zero_grad() must come after sparsifier.step()"
    )
