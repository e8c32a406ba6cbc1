"""Variational dropout: learn the noise of each weight; what is mostly noise can go."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from gossamer.penalties.precision import widened
from gossamer.reparametrizations.gates import weights_per_gate

# Of the fit to the divergence from the log-uniform prior, in the paper.
_K1, _K2, _K3 = 0.63576, 1.87320, 1.48695


@final
class VariationalDropout(nn.Module):
    """Add noise of a learned variance to each weight; weights whose noise exceeds them by far are absent.

    training: result = w + sqrt(variance) e, e standard normal
    eval mode: result = w where log_alpha <= threshold, else 0
    log_alpha = log(variance / w^2)

    Add `penalty` to the loss: at full strength where the loss is the sum over all samples, else divided by their
    number. Let its strength rise from 0 in the first steps. Each reading of the weight draws noise anew.

    Args:
        shape: of the variances; it broadcasts to the weight's: the weight's, as in the paper, for one a weight.
        log_variance: first value of all log variances; it must be far below the logs of the squared weights: -10.0 is a
            standard deviation of 0.0067.
        generator: source of randomness; its state is saved with the variances.
        threshold: the largest log_alpha of a weight that stays.

    Example:
        >>> part = VariationalDropout((2,), log_variance=-4.0, generator=torch.Generator()).eval()
        >>> part(torch.tensor([1.0, 0.02])).tolist()
        [1.0, 0.0]

    Source:
        Molchanov, Ashukha, Vetrov. Variational Dropout Sparsifies Deep Neural Networks. ICML 2017, arXiv:1701.05369.
        Differs: one noisy weight serves the whole batch. The paper draws the outputs of a layer instead, for each
        sample (local reparametrization), which has gradients of less variance but needs a layer of its own.
    """

    def __init__(
        self, shape: Sequence[int], *, log_variance: float, generator: torch.Generator, threshold: float = 3.0
    ) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.full(tuple(shape), log_variance, dtype=torch.float32))
        self._generator = generator
        self._threshold = threshold

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight with noise in training, without the noisy weights in eval mode."""
        if not self.training:
            return torch.where(self.mask(weight), weight, 0.0)
        weights_per_gate(self.log_variance, weight)
        log_variance = widened(self.log_variance)
        noise = torch.randn(
            weight.shape, generator=self._generator, device=self._generator.device, dtype=log_variance.dtype
        )
        return (widened(weight) + (log_variance / 2).exp() * noise.to(weight.device)).to(weight.dtype)

    def mask(self, weight: Tensor) -> Tensor:
        """Return which entries stay: bool, the weight's shape; those with log_alpha <= threshold."""
        return self._log_alpha(weight).detach() <= self._threshold

    def penalty(self, weight: Tensor) -> Tensor:
        """Return the divergence of the noisy weights from a log-uniform prior, a scalar >= 0 with a gradient.

        sum of k1 sigmoid(-(k2 + k3 log_alpha)) + log(1 + 1/alpha) / 2, k1 = 0.63576, k2 = 1.87320, k3 = 1.48695

        This is an approximation, off by less than 0.01 a weight. It is 0 where alpha is infinite.
        """
        log_alpha = self._log_alpha(weight)
        fit = _K1 * torch.sigmoid(-(_K2 + _K3 * log_alpha))
        return (fit + nn.functional.softplus(-log_alpha) / 2).sum()

    def get_extra_state(self) -> Tensor:
        """Return the generator's state, so that a resumed training draws what the other would have drawn."""
        return self._generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Set the generator's state."""
        self._generator.set_state(state.cpu())

    def _log_alpha(self, weight: Tensor) -> Tensor:
        weights_per_gate(self.log_variance, weight)
        values = widened(weight)
        # The log of a zero would have no gradient; so small a weight is noise through and through.
        magnitudes = values.abs().clamp(min=torch.finfo(values.dtype).tiny)
        return widened(self.log_variance) - 2 * magnitudes.log()
