"""The momentum of every entry of masked weights, absent ones too: what sparse momentum drops, grows and moves by."""

from collections.abc import Iterator, Mapping
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from gossamer import counts, growth
from gossamer.updates.allot import Dropped, apportion
from gossamer.updates.change import Change, naming
from gossamer.weights import MaskedWeight, Weight
from gossamer.weights.view import cleared

# Rows and columns of a tile of the dense gradient, and the tile.
Piece = tuple[slice, slice, Tensor]


@final
class Momentum:
    """Average the dense gradient over the steps. It changes nothing itself; an update after it reads it.

    m <- decay * m + (1 - decay) * factor * dL/dw at every entry
    factor = <g, g> / <g, dL/dw> over the active weights, g the gradient that moved them

    Only of masked weights: that of an absent entry takes the dense gradient of every step, and as much memory as a
    dense weight. The factor, one for the whole model, is 1 unless the gradient was scaled on its way: so a GradScaler
    may change its scale, and what is clipped by its norm counts as it is clipped. zero_grad() comes after
    sparsifier.step().

    Args:
        decay: how much of the average stays at a step, in [0, 1).
        stop_step: nothing is recorded from this step on.

    Raises:
        ValueError: an argument lies outside its range.
    """

    uses_gradient = True

    def __init__(self, *, decay: float, stop_step: int) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must lie in [0, 1), got {decay}; 0.9 averages over about ten steps")
        self._decay = decay
        self._stop_step = counts.check_positive(stop_step, name="stop_step")
        self._averages: dict[str, Tensor] = {}

    def due(self, step: int) -> bool:
        """Return whether the gradient of this step is recorded."""
        return 0 < step < self._stop_step

    def begin(self, weights: list[Weight]) -> None:
        """Start from zero.

        Raises:
            ValueError: a weight is truly sparse.
        """
        for weight in weights:
            if not isinstance(weight, MaskedWeight):
                raise ValueError(
                    f"{weight.name} is truly sparse, and the momentum of its absent entries takes the dense gradient "
                    "of every step; start from a dense model, such as gs.to_dense(model)"
                )
        self._averages = {weight.name: _zeros(weight) for weight in weights}

    def apply_all(
        self, weights: list[Weight], step: int, *, optimizer: Optimizer, generator: torch.Generator
    ) -> list[Change]:
        """Take the gradient of the step into the average."""
        tiles = []
        for weight in weights:
            with naming(weight, step):
                tiles.append([(*_cut(weight, first, tile), tile) for first, tile in weight.gradient_tiles()])
        factor = _factor(weights, tiles)
        for weight, pieces in zip(weights, tiles, strict=True):
            # What is remembered is replaced, so that a failing update can be taken back.
            self._averages[weight.name] = average = self._decay * self._averages[weight.name]
            for rows, columns, tile in pieces:
                average[rows, columns].add_(tile.to(average.dtype), alpha=factor * (1.0 - self._decay))
        return []

    def tiles(self, weight: Weight) -> Iterator[tuple[int, Tensor]]:
        """Yield the momentum as one tile, see `growth.momentum`."""
        yield 0, self._averages[weight.name]

    def grow(self, weight: Weight, kept: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Choose the absent entries with the largest momentum, see `Exchange`."""
        return growth.momentum(self.tiles(weight), kept, weight.closed_rows, weight.closed_columns, count=count)

    def allot(self, dropped: Dropped, generator: torch.Generator) -> list[int]:
        """Let each weight grow in proportion to the mean momentum of its active entries, before any is dropped.

        share = mean |m| over the active entries, divided by the sum of that over the weights

        Source: Dettmers, Zettlemoyer. Sparse networks from scratch: faster training without losing performance. 2019,
        arXiv:1907.04840.
        """
        wanted = []
        for weight in dropped.weights:
            active = self._averages[weight.name].flatten()[weight.indices()].abs().double()
            wanted.append(float(active.mean()) if active.numel() else 0.0)
        return apportion(sum(dropped.num_dropped), wanted, dropped.room)

    def state_dict(self) -> dict[str, Any]:
        """Return the averages."""
        return {name: average.clone() for name, average in self._averages.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from saved averages."""
        self._averages = {name: state[name].to(average).clone() for name, average in self._averages.items()}


def _cut(weight: Weight, first: int, tile: Tensor) -> tuple[slice, slice]:
    """The rows and columns of a tile."""
    top, left = divmod(first, max(1, weight.closed_columns.numel()))
    return slice(top, top + tile.shape[0]), slice(left, left + tile.shape[1])


def _factor(weights: list[Weight], tiles: list[list[Piece]]) -> float:
    """By what the optimizer's gradient is larger than the recorded one; 0 where no active weight has any."""
    taken = shared = 0.0
    for weight, pieces in zip(weights, tiles, strict=True):
        gradient = weight.parameter.grad
        if gradient is None:
            raise RuntimeError(cleared(weight.name))
        # Zero where nothing is active.
        matrix = gradient.detach().reshape(weight.closed_rows.numel(), weight.closed_columns.numel())
        for rows, columns, tile in pieces:
            part = matrix[rows, columns].flatten().float()
            taken += float(part @ part)
            shared += float(part @ tile.flatten().float())
    return taken / shared if shared else 0.0


def _zeros(weight: Weight) -> Tensor:
    dtype = torch.promote_types(weight.parameter.dtype, torch.float32)
    shape = weight.closed_rows.numel(), weight.closed_columns.numel()
    return torch.zeros(shape, dtype=dtype, device=weight.parameter.device)
