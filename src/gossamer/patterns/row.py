"""Rows: an output keeps all its weights or none."""

from gossamer.patterns.in_blocks import InBlocks
from gossamer.patterns.pattern import Matrix, Shape


def row() -> InBlocks:
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
    return InBlocks(text="row()", block_of=_one_row)


def _one_row(shape: Shape, matrix: Matrix) -> Matrix:
    return 1, max(1, matrix[1])
