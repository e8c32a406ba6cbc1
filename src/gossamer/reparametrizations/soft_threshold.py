"""Soft threshold reparametrization (STR): learn the threshold below which weights are zero."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from gossamer.penalties.precision import widened
from gossamer.reparametrizations.gates import weights_per_gate


@final
class SoftThreshold(nn.Module):
    """Shorten each weight by a learned threshold, to zero where it is shorter.

    result = sign(w) max(|w| - sigmoid(raw_threshold), 0)

    No penalty: weight decay of the optimizer on `raw_threshold` draws it towards 0, thus the threshold up to 1/2, while
    the loss holds it down; the sparsity that results follows from the decay and from the first value.

    Args:
        raw_threshold: first value of the threshold before the sigmoid, as a rule far below 0; -5.0 starts at 0.0067.
        shape: of the thresholds; it broadcasts to the weight's: () for one a tensor, (rows, 1) for one an output.

    Example:
        >>> part = SoftThreshold(raw_threshold=0.0)
        >>> part(torch.tensor([2.0, -1.0, 0.25])).tolist()
        [1.5, -0.5, 0.0]

    Source:
        Kusupati, Ramanujan, Somani, Wortsman, Jain, Kakade, Farhadi. Soft Threshold Weight Reparameterization for
        Learnable Sparsity. ICML 2020, arXiv:2002.03231.
        Differs: the sigmoid alone; the paper also tries other functions with values above 0.
    """

    def __init__(self, *, raw_threshold: float, shape: Sequence[int] = ()) -> None:
        super().__init__()
        self.raw_threshold = nn.Parameter(torch.full(tuple(shape), raw_threshold, dtype=torch.float32))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight shortened by its threshold."""
        weights_per_gate(self.raw_threshold, weight)
        values = widened(weight)
        return (values.sign() * torch.relu(values.abs() - self._threshold())).to(weight.dtype)

    def mask(self, weight: Tensor) -> Tensor:
        """Return which entries stay: bool, the weight's shape; those longer than their threshold."""
        weights_per_gate(self.raw_threshold, weight)
        return widened(weight.detach()).abs() > self._threshold().detach()

    def _threshold(self) -> Tensor:
        return torch.sigmoid(widened(self.raw_threshold))
