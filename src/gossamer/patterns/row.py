"""Rows: an output keeps all its weights or none."""

from dataclasses import dataclass

from torch import Tensor

from gossamer.patterns import whole
from gossamer.patterns.pattern import Matrix, Shape, as_matrix, check_asked, check_feasible


@dataclass(frozen=True, kw_only=True, repr=False)
class Row:
    """The pattern that `row` returns."""

    def __repr__(self) -> str:
        return "row()"

    def nearest(self, shape: Shape, num_active: int) -> int:
        """Return the nearest count that whole rows can have."""
        matrix, block = self._sizes(shape)
        return whole.nearest(matrix, block, check_asked(self, shape, num_active))

    def keep(self, scores: Tensor, num_active: int) -> Tensor:
        """Mark the whole rows with the largest sums of scores, by place among equals."""
        check_feasible(self, scores, num_active)
        matrix, block = self._sizes(tuple(scores.shape))
        return whole.keep(scores.reshape(matrix), block, num_active).reshape(scores.shape)

    def groups(self, shape: Shape) -> Tensor:
        """Number the rows."""
        matrix, block = self._sizes(shape)
        return whole.groups(matrix, block).reshape(shape)

    def _sizes(self, shape: Shape) -> tuple[Matrix, Matrix]:
        matrix = as_matrix(self, shape)
        return matrix, (1, max(1, matrix[1]))


def row() -> Row:
    """Let all weights of an output stay or go together: the rows of the matrix [out, in * kernel].

    Returns:
        A `Pattern`.

    Example:
        >>> import torch
        >>> row().keep(torch.tensor([[3.0, 0.0], [2.0, 2.0]]), 2)
        tensor([[False, False],
                [ True,  True]])

    Source:
        Wen, Wu, Wang, Chen, Li. Learning Structured Sparsity in Deep Neural Networks. NIPS 2016, arXiv:1608.03665.
        Differs: the best rows are chosen by score, the paper drives them to zero by a penalty.
    """
    return Row()
