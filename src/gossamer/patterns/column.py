"""Columns: an input is read by all outputs or by none."""

from gossamer.patterns.in_blocks import InBlocks
from gossamer.patterns.pattern import Matrix, Shape


def column() -> InBlocks:
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
    return InBlocks(text="column()", block_of=_one_column)


def _one_column(shape: Shape, matrix: Matrix) -> Matrix:
    return max(1, matrix[0]), 1
