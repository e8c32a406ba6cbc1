"""Kernels: the slice of a convolution from one input to one output channel stays or goes."""

import math
from dataclasses import dataclass

from torch import Tensor

from gossamer.patterns import whole
from gossamer.patterns.pattern import Matrix, Shape, as_matrix, check_asked, check_feasible


@dataclass(frozen=True, kw_only=True, repr=False)
class Kernels:
    """The pattern that `kernels` returns."""

    def __repr__(self) -> str:
        return "kernels()"

    def nearest(self, shape: Shape, num_active: int) -> int:
        """Return the nearest count that whole slices can have."""
        matrix, block = self._sizes(shape)
        return whole.nearest(matrix, block, check_asked(self, shape, num_active))

    def keep(self, scores: Tensor, num_active: int) -> Tensor:
        """Mark the whole slices with the largest sums of scores, by place among equals."""
        check_feasible(self, scores, num_active)
        matrix, block = self._sizes(tuple(scores.shape))
        return whole.keep(scores.reshape(matrix), block, num_active).reshape(scores.shape)

    def groups(self, shape: Shape) -> Tensor:
        """Number the slices by output channel, then by input channel."""
        matrix, block = self._sizes(shape)
        return whole.groups(matrix, block).reshape(shape)

    def _sizes(self, shape: Shape) -> tuple[Matrix, Matrix]:
        matrix = as_matrix(self, shape)
        if len(shape) < 3:
            raise ValueError(
                f"{self} needs the weight of a convolution, (out, in, kernel...), got shape {shape}; "
                "for linear weights, where each entry is such a slice, use unstructured()"
            )
        return matrix, (1, max(1, math.prod(shape[2:])))


def kernels() -> Kernels:
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
    return Kernels()
