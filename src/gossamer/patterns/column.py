"""Columns: an input is read by all outputs or by none."""

from dataclasses import dataclass

from torch import Tensor

from gossamer.patterns import whole
from gossamer.patterns.pattern import Matrix, Shape, as_matrix, check_asked, check_feasible


@dataclass(frozen=True, kw_only=True, repr=False)
class Column:
    """The pattern that `column` returns."""

    def __repr__(self) -> str:
        return "column()"

    def nearest(self, shape: Shape, num_active: int) -> int:
        """Return the nearest count that whole columns can have."""
        matrix, block = self._sizes(shape)
        return whole.nearest(matrix, block, check_asked(self, shape, num_active))

    def keep(self, scores: Tensor, num_active: int) -> Tensor:
        """Mark the whole columns with the largest sums of scores, by place among equals."""
        check_feasible(self, scores, num_active)
        matrix, block = self._sizes(tuple(scores.shape))
        return whole.keep(scores.reshape(matrix), block, num_active).reshape(scores.shape)

    def groups(self, shape: Shape) -> Tensor:
        """Number the columns."""
        matrix, block = self._sizes(shape)
        return whole.groups(matrix, block).reshape(shape)

    def _sizes(self, shape: Shape) -> tuple[Matrix, Matrix]:
        matrix = as_matrix(self, shape)
        return matrix, (max(1, matrix[0]), 1)


def column() -> Column:
    """Let all weights of an input feature stay or go together: the columns of the matrix [out, in * kernel].

    For convolutions an input feature is one input channel at one place of the kernel, as in the unfolded input: the
    "shape-wise" sparsity of the paper.

    Returns:
        A `Pattern`.

    Example:
        >>> import torch
        >>> column().keep(torch.tensor([[3.0, 0.0], [2.0, 2.0]]), 2)
        tensor([[ True, False],
                [ True, False]])

    Source:
        Wen, Wu, Wang, Chen, Li. Learning Structured Sparsity in Deep Neural Networks. NIPS 2016, arXiv:1608.03665.
        Differs: the best columns are chosen by score, the paper drives them to zero by a penalty.
    """
    return Column()
