"""Continuous sparsification: gates that are smooth at first and become steps as the temperature grows."""

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from gossamer.penalties.precision import widened
from gossamer.reparametrizations.gates import weights_per_gate


@final
class ContinuousSparsification(nn.Module):
    """Multiply the weight by sigmoid(temperature * scores); in eval mode by the step that this approaches.

    gate = sigmoid(temperature * s) in training, [s > 0] in eval mode

    Let the temperature grow from 1, by the same factor each step, to some hundreds, and add `penalty` times a strength
    to the loss.

    Args:
        shape: of the scores; it broadcasts to the weight's: the weight's for one a weight, (rows, 1) for one an output.
        first_score: first value of all scores; the lower, the fewer weights stay.

    Attributes:
        scores: learned, larger = keep.
        temperature: beta, a float; set by `set_temperature_`, saved with the scores.

    Example:
        >>> part = ContinuousSparsification((2,), first_score=0.1)
        >>> part.set_temperature_(100.0)
        >>> part(torch.ones(2)).round(decimals=4).tolist()
        [1.0, 1.0]

    Source:
        Savarese, Silva, Maire. Winning the Lottery with Continuous Sparsification. NeurIPS 2020, arXiv:1912.04427.
    """

    def __init__(self, shape: Sequence[int], *, first_score: float) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.full(tuple(shape), first_score, dtype=torch.float32))
        self.temperature = 1.0
        self._first_score = first_score

    def set_temperature_(self, temperature: float) -> None:
        """Make the gates as steep as sigmoid(temperature * score) from now on.

        Args:
            temperature: beta, > 0 and finite.

        Raises:
            ValueError: it is not.
        """
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature must be a finite number above 0, got {temperature}; it grows from 1")
        self.temperature = float(temperature)

    def start_round_(self) -> None:
        """Begin another round: kept scores start anew, dropped ones stay low, and the temperature is 1.

        s <- min(temperature * s, first score)

        Weights are not touched; the paper sets them back to those of an early step.
        """
        self.scores.data.mul_(self.temperature).clamp_(max=self._first_score)
        self.temperature = 1.0

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight times its gates."""
        weights_per_gate(self.scores, weight)
        if not self.training:
            return torch.where(self.scores > 0, weight, 0.0)
        return (widened(weight) * self._gates()).to(weight.dtype)

    def mask(self, weight: Tensor) -> Tensor:
        """Return which entries stay: bool, the weight's shape; those with a score above 0."""
        weights_per_gate(self.scores, weight)
        return (self.scores.detach() > 0).expand(weight.shape).clone()

    def penalty(self, weight: Tensor) -> Tensor:
        """Return the sum of the gates over all weights, a scalar with a gradient."""
        return self._gates().sum() * weights_per_gate(self.scores, weight)

    def get_extra_state(self) -> Tensor:
        """Return the temperature."""
        return torch.tensor(self.temperature, dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Set the temperature."""
        self.temperature = float(state)

    def _gates(self) -> Tensor:
        return torch.sigmoid(self.temperature * widened(self.scores))
