"""Sensitivity: weights that do not move the outputs."""

import torch
from torch import Tensor

from gossamer.elementwise import elementwise


@elementwise
def sensitivity(output_sensitivity: Tensor) -> Tensor:
    """Score each weight by how strongly the outputs react to it; no labels are needed.

    score = E |d (sum of outputs) / dw|

    Args:
        output_sensitivity: that mean over samples, any shape [*].

    Returns:
        Scores, shape [*], float32, never negative; larger means keep.

    Example:
        >>> sensitivity(torch.tensor([0.5, 2.0]))
        tensor([0.5000, 2.0000])

    Source:
        Tartaglione, Lepsoy, Fiandrotti, Francini. Learning Sparse Neural Networks via Sensitivity-Driven
        Regularization. NeurIPS 2018, arXiv:1810.11764.
        Differs: there it steers weight decay; the derivative of the sum of outputs stands for the sum of the
        absolute derivatives, which would take one backward pass for each output.
    """
    return output_sensitivity.detach().to(torch.float32, copy=True)
