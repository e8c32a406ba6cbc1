"""One row for each pattern and shape: it enrols the pattern in the contract tests."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer import patterns


@dataclass(frozen=True, kw_only=True)
class Case:
    """A pattern on a tiny weight, and what its masks look like, said once more in another way.

    Attributes:
        pattern: what is tested.
        shape: of the weight, at most twelve entries.
        allowed: whether a mask of that shape has the pattern.
        nested: whether a denser mask contains each sparser one of the same scores.
    """

    pattern: patterns.Pattern
    shape: tuple[int, ...]
    allowed: Callable[[Tensor], bool]
    nested: bool = True

    @property
    def numel(self) -> int:
        """Number of entries of the weight."""
        return math.prod(self.shape)

    def masks(self) -> Tensor:
        """Return every mask of the shape that has the pattern, shape [masks, *shape]."""
        return _masks(self)

    def counts(self) -> set[int]:
        """Return the counts that masks of the pattern can have."""
        return set(self.masks().flatten(1).sum(1).tolist())


@functools.cache
def _masks(case: Case) -> Tensor:
    places = torch.arange(case.numel)
    every = (torch.arange(2**case.numel)[:, None] >> places & 1).bool().view(-1, *case.shape)
    return every[torch.tensor([case.allowed(mask) for mask in every])]


def as_one(stretches: list[Tensor]) -> bool:
    """Return whether each stretch is wholly True or wholly False."""
    return all(len(set(stretch.flatten().tolist())) <= 1 for stretch in stretches)


def blocks(mask: Tensor, rows: int, columns: int) -> list[Tensor]:
    """Cut the matrix of a mask into blocks."""
    return [block for band in mask.flatten(1).split(rows) for block in band.split(columns, 1)]


def by_two_of_four(mask: Tensor) -> bool:
    """Return whether two of each four inputs are True, of a rest of one or two one, of three two."""
    lines = mask.movedim(1, -1).flatten(0, -2)
    return all(int(part.sum()) == (part.numel() + 1) // 2 for line in lines for part in line.split(4))


CASES = [
    Case(pattern=patterns.unstructured(), shape=(2, 4), allowed=lambda mask: True),
    Case(pattern=patterns.unstructured(), shape=(5,), allowed=lambda mask: True),
    Case(pattern=patterns.block(2, 2), shape=(2, 6), allowed=lambda mask: as_one(blocks(mask, 2, 2))),
    Case(pattern=patterns.block(1, 3), shape=(2, 3, 2), allowed=lambda mask: as_one(blocks(mask, 1, 3))),
    Case(pattern=patterns.block(2, 2), shape=(3, 4), allowed=lambda mask: as_one(blocks(mask, 2, 2)), nested=False),
    Case(pattern=patterns.block(1, 2), shape=(2, 5), allowed=lambda mask: as_one(blocks(mask, 1, 2)), nested=False),
    Case(pattern=patterns.block(2, 3), shape=(3, 4), allowed=lambda mask: as_one(blocks(mask, 2, 3)), nested=False),
    Case(pattern=patterns.block(3, 2), shape=(2, 1, 5), allowed=lambda mask: as_one(blocks(mask, 3, 2)), nested=False),
    Case(pattern=patterns.block(2, 4), shape=(2, 5), allowed=lambda mask: as_one(blocks(mask, 2, 4)), nested=False),
    Case(pattern=patterns.block(9, 9), shape=(3, 3), allowed=lambda mask: as_one([mask])),
    Case(pattern=patterns.nm(2, 4), shape=(2, 4), allowed=by_two_of_four),
    Case(pattern=patterns.nm(2, 4), shape=(1, 4, 3), allowed=by_two_of_four),
    Case(pattern=patterns.nm(2, 4), shape=(1, 9), allowed=by_two_of_four),
    Case(pattern=patterns.nm(2, 4), shape=(2, 6), allowed=by_two_of_four),
    Case(pattern=patterns.nm(2, 4), shape=(1, 11), allowed=by_two_of_four),
    Case(
        pattern=patterns.constant_fan_in(),
        shape=(3, 2, 2),
        allowed=lambda mask: len(set(mask.flatten(1).sum(1).tolist())) == 1,
    ),
    Case(pattern=patterns.row(), shape=(3, 4), allowed=lambda mask: as_one(list(mask))),
    Case(pattern=patterns.row(), shape=(3, 1, 2, 2), allowed=lambda mask: as_one(list(mask))),
    Case(pattern=patterns.column(), shape=(3, 4), allowed=lambda mask: as_one(list(mask.t()))),
    Case(pattern=patterns.column(), shape=(3, 2, 2), allowed=lambda mask: as_one(list(mask.flatten(1).t()))),
    Case(pattern=patterns.filters(), shape=(3, 2, 2), allowed=lambda mask: as_one(list(mask))),
    Case(pattern=patterns.kernels(), shape=(2, 3, 2), allowed=lambda mask: as_one(list(mask.flatten(0, 1)))),
    Case(pattern=patterns.kernels(), shape=(1, 3, 2, 2), allowed=lambda mask: as_one(list(mask.flatten(0, 1)))),
]
