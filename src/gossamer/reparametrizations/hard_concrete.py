"""Hard concrete gates: learn which weights stay through the expected number of them."""

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from gossamer.penalties.precision import widened
from gossamer.reparametrizations.gates import weights_per_gate


@final
class HardConcrete(nn.Module):
    """Multiply the weight by random gates in [0, 1] that are exactly 0 or 1 with a learned probability.

    s = sigmoid((logit(u) + log_alpha) / temperature), u uniform in (0, 1)
    gate = clamp(s (upper - lower) + lower, 0, 1)
    P(gate != 0) = sigmoid(log_alpha - temperature log(-lower / upper))

    In eval mode gate = clamp(sigmoid(log_alpha) (upper - lower) + lower, 0, 1). Add `penalty` times a strength to the
    loss; each time the weight is read in training, gates are drawn anew.

    Args:
        shape: of the gates; it broadcasts to the weight's: the weight's for one a weight, (rows, 1) for one an output.
        log_alpha: first value of all gates; at 2.0, 88 % of the drawn gates lie above 1/2, at 0.0 half of them.
        generator: source of randomness; its state is saved with the gates.
        temperature: beta, > 0; the smaller, the more gates lie at the ends.
        lower: gamma, < 0.
        upper: zeta, > 1.

    Raises:
        ValueError: temperature, lower or upper lies outside its range.

    Example:
        >>> layer = nn.Linear(4, 2)
        >>> gates = HardConcrete((2, 1), log_alpha=2.0, generator=torch.Generator())
        >>> layer = nn.utils.parametrize.register_parametrization(layer, "weight", gates)
        >>> gates.penalty(layer.parametrizations.weight.original)
        tensor(7.7869, grad_fn=<MulBackward0>)

    Source:
        Louizos, Welling, Kingma. Learning Sparse Neural Networks through L0 Regularization. ICLR 2018,
        arXiv:1712.01312.
        Differs: the gates are drawn for a whole batch, not for each sample of it.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        log_alpha: float,
        generator: torch.Generator,
        temperature: float = 2 / 3,
        lower: float = -0.1,
        upper: float = 1.1,
    ) -> None:
        super().__init__()
        if not (temperature > 0 and lower < 0 and upper > 1):
            raise ValueError(
                f"temperature must be above 0, lower below 0 and upper above 1, got {temperature}, {lower} and "
                f"{upper}; the paper has 2/3, -0.1 and 1.1"
            )
        self.log_alpha = nn.Parameter(torch.full(tuple(shape), log_alpha, dtype=torch.float32))
        self._generator = generator
        self._temperature, self._lower, self._upper = temperature, lower, upper

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight times its gates: drawn in training, the deterministic ones in eval mode."""
        weights_per_gate(self.log_alpha, weight)
        gates = self._drawn() if self.training else self._deterministic()
        return (widened(weight) * gates).to(weight.dtype)

    def mask(self, weight: Tensor) -> Tensor:
        """Return which entries stay: bool, the weight's shape; those whose deterministic gate is not 0."""
        weights_per_gate(self.log_alpha, weight)
        return (self._deterministic().detach() > 0).expand(weight.shape).clone()

    def penalty(self, weight: Tensor) -> Tensor:
        """Return the expected number of weights whose gate is not 0, a scalar with a gradient."""
        shift = self._temperature * math.log(-self._lower / self._upper)
        opens = torch.sigmoid(widened(self.log_alpha) - shift)
        return opens.sum() * weights_per_gate(self.log_alpha, weight)

    def get_extra_state(self) -> Tensor:
        """Return the generator's state, so that a resumed training draws what the other would have drawn."""
        return self._generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Set the generator's state."""
        self._generator.set_state(state.cpu())

    def _drawn(self) -> Tensor:
        log_alpha = widened(self.log_alpha)
        uniform = torch.rand(
            log_alpha.shape, generator=self._generator, device=self._generator.device, dtype=log_alpha.dtype
        )
        noise = torch.logit(uniform).to(log_alpha.device)
        return self._stretched(torch.sigmoid((noise + log_alpha) / self._temperature))

    def _deterministic(self) -> Tensor:
        return self._stretched(torch.sigmoid(widened(self.log_alpha)))

    def _stretched(self, gates: Tensor) -> Tensor:
        return (gates * (self._upper - self._lower) + self._lower).clamp(0.0, 1.0)
