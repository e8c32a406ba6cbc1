"""Blocks: rectangles of a matrix stay or go as a whole."""

from dataclasses import dataclass

from torch import Tensor

from gossamer.counts import check_positive
from gossamer.patterns import whole
from gossamer.patterns.pattern import Shape, as_matrix, check_asked, check_feasible


@dataclass(frozen=True, kw_only=True, repr=False)
class Block:
    """The pattern that `block` returns.

    Attributes:
        rows, columns: size of a block.
    """

    rows: int
    columns: int

    def __repr__(self) -> str:
        return f"block({self.rows}, {self.columns})"

    def nearest(self, shape: Shape, num_active: int) -> int:
        """Return the nearest count that whole blocks can have."""
        matrix = as_matrix(self, shape)
        return whole.nearest(matrix, (self.rows, self.columns), check_asked(self, shape, num_active))

    def keep(self, scores: Tensor, num_active: int) -> Tensor:
        """Mark the whole blocks of that count with the largest sum of scores."""
        check_feasible(self, scores, num_active)
        rows, columns = as_matrix(self, tuple(scores.shape))
        kept = whole.keep(scores.reshape(rows, columns), (self.rows, self.columns), num_active)
        return kept.reshape(scores.shape)

    def groups(self, shape: Shape) -> Tensor:
        """Number the blocks by rows."""
        return whole.groups(as_matrix(self, shape), (self.rows, self.columns)).reshape(shape)


def block(rows: int, columns: int) -> Block:
    """Let rectangles of the matrix [out, in * kernel] stay or go as a whole; they compete by the sum of their scores.

    Where the size of a block does not divide that of the matrix, the blocks at the right and at the bottom are cut
    off. The possible counts are then all that some choice of inner and cut blocks adds up to; the mask kept is the best
    of all choices with that count, so a denser mask need not contain a sparser one.

    Args:
        rows: outputs that a block spans, >= 1.
        columns: columns of the matrix that it spans, >= 1.

    Returns:
        A `Pattern`.

    Raises:
        ValueError: a size below 1.

    Example:
        >>> import torch
        >>> scores = torch.tensor([[1.0, 1.0, 0.0, 3.0], [1.0, 0.0, 2.0, 0.0]])
        >>> block(2, 2).keep(scores, 4).int()
        tensor([[0, 0, 1, 1],
                [0, 0, 1, 1]], dtype=torch.int32)
        >>> block(2, 2).nearest((2, 5), 3), block(2, 2).nearest((2, 5), 7)
        (2, 6)

    Source:
        Narang, Undersander, Diamos. Block-Sparse Recurrent Neural Networks. 2017, arXiv:1711.02782.
        Differs: blocks compete by their sum, the paper thresholds the largest magnitude of a block.
    """
    return Block(rows=check_positive(rows, name="rows"), columns=check_positive(columns, name="columns"))
