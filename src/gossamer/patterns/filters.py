"""Filters: an output channel of a convolution keeps all its weights or none."""

from dataclasses import dataclass

from torch import Tensor

from gossamer.patterns import whole
from gossamer.patterns.pattern import Matrix, Shape, as_matrix, check_asked, check_feasible


@dataclass(frozen=True, kw_only=True, repr=False)
class Filters:
    """The pattern that `filters` returns."""

    def __repr__(self) -> str:
        return "filters()"

    def nearest(self, shape: Shape, num_active: int) -> int:
        """Return the nearest count that whole filters can have."""
        matrix, block = self._sizes(shape)
        return whole.nearest(matrix, block, check_asked(self, shape, num_active))

    def keep(self, scores: Tensor, num_active: int) -> Tensor:
        """Mark the whole filters with the largest sums of scores, by place among equals."""
        check_feasible(self, scores, num_active)
        matrix, block = self._sizes(tuple(scores.shape))
        return whole.keep(scores.reshape(matrix), block, num_active).reshape(scores.shape)

    def groups(self, shape: Shape) -> Tensor:
        """Number the filters as the output channels."""
        matrix, block = self._sizes(shape)
        return whole.groups(matrix, block).reshape(shape)

    def _sizes(self, shape: Shape) -> tuple[Matrix, Matrix]:
        matrix = as_matrix(self, shape)
        if len(shape) < 3:
            raise ValueError(
                f"{self} needs the weight of a convolution, (out, in, kernel...), got shape {shape}; "
                "row() does the same and takes linear weights too"
            )
        return matrix, (1, max(1, matrix[1]))


def filters() -> Filters:
    """Let all weights of an output channel stay or go together; convolutions alone, where it is the same as `row`.

    Returns:
        A `Pattern`.

    Example:
        >>> import torch
        >>> filters().keep(torch.tensor([[[3.0, 0.0]], [[2.0, 2.0]]]), 2)
        tensor([[[False, False]],
        <BLANKLINE>
                [[ True,  True]]])

    Source:
        Li, Kadav, Durdanovic, Samet, Graf. Pruning Filters for Efficient ConvNets. ICLR 2017, arXiv:1608.08710.
    """
    return Filters()
