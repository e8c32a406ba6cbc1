"""Patterns made of whole blocks: rows, columns, filters, kernels and rectangles differ in the block alone."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from gossamer.patterns import whole
from gossamer.patterns.pattern import Matrix, Shape, as_matrix, check_asked, check_feasible


@dataclass(frozen=True, kw_only=True, repr=False)
class InBlocks:
    """A `Pattern` of whole blocks of the matrix [out, in * kernel], which compete by the sum of their scores.

    Attributes:
        text: the call that made it, for errors and tables.
        block_of: (shape of the weight, size of its matrix) -> size of a block; raises where the shape has none.
    """

    text: str
    block_of: Callable[[Shape, Matrix], Matrix]

    def __repr__(self) -> str:
        return self.text

    def nearest(self, shape: Shape, num_active: int) -> int:
        """Return the nearest count that whole blocks can have."""
        matrix, block = self._sizes(shape)
        return whole.nearest(matrix, block, check_asked(self, shape, num_active))

    def keep(self, scores: Tensor, num_active: int) -> Tensor:
        """Mark the whole blocks of that count with the largest sum of scores, by place among equals."""
        check_feasible(self, scores, num_active)
        matrix, block = self._sizes(tuple(scores.shape))
        return whole.keep(scores.reshape(matrix), block, num_active).reshape(scores.shape)

    def groups(self, shape: Shape) -> Tensor:
        """Number the blocks, row by row."""
        matrix, block = self._sizes(shape)
        return whole.groups(matrix, block).reshape(shape)

    def _sizes(self, shape: Shape) -> tuple[Matrix, Matrix]:
        matrix = as_matrix(self, shape)
        return matrix, self.block_of(shape, matrix)
