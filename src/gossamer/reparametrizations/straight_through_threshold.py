"""Straight-through masks by learned scores and a threshold: how many weights stay is learned too."""

from typing import final

import torch
from torch import Tensor, nn

from gossamer.penalties.precision import widened
from gossamer.reparametrizations.straight_through import check_same_shape, select


@final
class StraightThroughThreshold(nn.Module):
    """Keep the weights whose score is above a threshold; the scores learn as if the mask were the scores.

    result = m * w, m = [s > threshold]
    dL/dw = dL/dresult and dL/ds = dL/dresult * w

    Nothing but `penalty` times a strength in the loss makes the scores fall.

    Args:
        scores: first scores, shape of the weight, larger = keep; copied.
        threshold: what a score must exceed, any number.

    Attributes:
        scores: learned, float32 unless they came as float64.

    Example:
        >>> part = StraightThroughThreshold(torch.tensor([0.1, 3.0, 2.0]), threshold=2.0)
        >>> part(torch.tensor([5.0, 6.0, 7.0])).tolist()
        [0.0, 6.0, 0.0]

    Source:
        Sanh, Wolf, Rush. Movement Pruning: Adaptive Sparsity by Fine-Tuning. NeurIPS 2020, arXiv:2005.07683; there
        "soft" movement pruning. The estimator: Bengio, Leonard, Courville. 2013, arXiv:1308.3432.
        Differs: the gradient also reaches weights that are absent; in the paper only active ones.
    """

    def __init__(self, scores: Tensor, *, threshold: float) -> None:
        super().__init__()
        self.scores = nn.Parameter(widened(scores.detach()).clone())
        self._threshold = threshold

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight with zeros where the mask has them."""
        return select(weight, self.scores, self.mask(weight))

    def mask(self, weight: Tensor) -> Tensor:
        """Return which entries stay: bool, the weight's shape; those whose score is above the threshold."""
        check_same_shape(self.scores, weight)
        return self.scores.detach() > self._threshold

    def penalty(self, weight: Tensor) -> Tensor:
        """Return the sum of sigmoid(scores), a scalar with a gradient: a smooth stand-in for the number that stay."""
        check_same_shape(self.scores, weight)
        return torch.sigmoid(widened(self.scores)).sum()
