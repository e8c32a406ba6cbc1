"""Blocks: rectangles of a matrix stay or go as a whole."""

from dataclasses import dataclass

from gossamer.counts import check_positive
from gossamer.patterns.in_blocks import InBlocks
from gossamer.patterns.pattern import Matrix, Shape


def block(rows: int, columns: int) -> InBlocks:
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
    size = check_positive(rows, name="rows"), check_positive(columns, name="columns")
    return InBlocks(text=f"block({rows}, {columns})", block_of=_Rectangle(size))


@dataclass(frozen=True)
class _Rectangle:
    """The same block for every shape; a record, so that equal patterns are equal."""

    size: Matrix

    def __call__(self, shape: Shape, matrix: Matrix) -> Matrix:
        return self.size
