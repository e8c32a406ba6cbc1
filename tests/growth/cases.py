"""One row for each growth rule: it enrols the rule in the contract tests."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer import growth


@dataclass(frozen=True, kw_only=True)
class Case:
    """A growth rule and how it is called with a seed.

    Attributes:
        name: the rule.
        choose: (kept, closed_rows, closed_columns, count, seed) -> indices to activate.
    """

    name: str
    choose: Callable[[Tensor, Tensor, Tensor, int, int], Tensor]


def tiles_of(gradient: Tensor, step: int = 1) -> Iterator[tuple[int, Tensor]]:
    """Cut a dense gradient into stretches of `step` rows, as a weight does."""
    for row in range(0, gradient.shape[0], step):
        yield row * gradient.shape[1], gradient[row : row + step]


def _random(kept: Tensor, closed_rows: Tensor, closed_columns: Tensor, count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return growth.random(kept, closed_rows, closed_columns, count=count, generator=generator)


def _gradient(kept: Tensor, closed_rows: Tensor, closed_columns: Tensor, count: int, seed: int) -> Tensor:
    shape = closed_rows.numel(), closed_columns.numel()
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return growth.gradient(tiles_of(gradient), kept, closed_rows, closed_columns, count=count)


def _momentum(kept: Tensor, closed_rows: Tensor, closed_columns: Tensor, count: int, seed: int) -> Tensor:
    shape = closed_rows.numel(), closed_columns.numel()
    momentum = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return growth.momentum([(0, momentum)], kept, closed_rows, closed_columns, count=count)


def _guided(kept: Tensor, closed_rows: Tensor, closed_columns: Tensor, count: int, seed: int) -> Tensor:
    gradient = torch.randn(closed_rows.numel() * closed_columns.numel(), generator=torch.Generator().manual_seed(seed))
    return growth.guided(
        lambda places: gradient[places],
        kept,
        closed_rows,
        closed_columns,
        count=count,
        num_candidates=2 * count,
        generator=torch.Generator().manual_seed(seed),
    )


def _preferential(kept: Tensor, closed_rows: Tensor, closed_columns: Tensor, count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return growth.preferential_attachment(kept, closed_rows, closed_columns, count=count, generator=generator)


CASES = [
    Case(name="random", choose=_random),
    Case(name="gradient", choose=_gradient),
    Case(name="guided", choose=_guided),
    Case(name="momentum", choose=_momentum),
    Case(name="preferential_attachment", choose=_preferential),
]
