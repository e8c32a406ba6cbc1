"""Filters: an output channel of a convolution keeps all its weights or none."""

from gossamer.patterns.in_blocks import InBlocks
from gossamer.patterns.pattern import Matrix, Shape


def filters() -> InBlocks:
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
    return InBlocks(text="filters()", block_of=_one_filter)


def _one_filter(shape: Shape, matrix: Matrix) -> Matrix:
    if len(shape) < 3:
        raise ValueError(
            f"filters() needs the weight of a convolution, (out, in, kernel...), got shape {shape}; "
            "row() does the same and takes linear weights too"
        )
    return 1, max(1, matrix[1])
