"""Kernels: the slice of a convolution from one input to one output channel stays or goes."""

import math

from gossamer.patterns.in_blocks import InBlocks
from gossamer.patterns.pattern import Matrix, Shape


def kernels() -> InBlocks:
    """Let the weights from one input channel to one output channel, such as 3 x 3, stay or go together.

    Returns:
        A `Pattern`.

    Example:
        >>> import torch
        >>> kernels().keep(torch.tensor([[[3.0, 0.0], [2.0, 2.0], [1.0, 1.0]]]), 4)
        tensor([[[ True,  True],
                 [ True,  True],
                 [False, False]]])

    Source:
        Mao, Han, Pool, Li, Liu, Wang, Dally. Exploring the Regularity of Sparse Structure in Convolutional Neural
        Networks. 2017, arXiv:1705.08922.
    """
    return InBlocks(text="kernels()", block_of=_one_slice)


def _one_slice(shape: Shape, matrix: Matrix) -> Matrix:
    if len(shape) < 3:
        raise ValueError(
            f"kernels() needs the weight of a convolution, (out, in, kernel...), got shape {shape}; "
            "for linear weights, where each entry is such a slice, use unstructured()"
        )
    return 1, max(1, math.prod(shape[2:]))
