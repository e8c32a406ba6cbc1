import math

import pytest
import torch
from scipy import special, stats

from gossamer.reparametrizations import VariationalDropout

from .cases import generator

LOG_ALPHAS = [-8.0, -3.5, -2.0, -1.0, 0.0, 1.0, 3.0, 6.0]


def penalty_at(log_alpha: float, *, weight: float = 0.5) -> float:
    """Return the penalty of one weight."""
    part = VariationalDropout((1,), log_variance=0.0, generator=torch.Generator()).double()
    part.log_variance.data += log_alpha + 2 * math.log(abs(weight))
    return part.penalty(torch.tensor([weight], dtype=torch.float64)).item()


def divergence(log_alpha: float) -> float:
    """Return the divergence of N(w, alpha w^2) from the log-uniform prior, exactly, 0 at alpha = infinity.

    It is E log|1 + sqrt(alpha) e| - log(alpha) / 2 - E log|e|. The square of 1 / sqrt(alpha) + e follows the noncentral
    chi-square distribution of one degree: a Poisson mixture of chi-squares, whose logs have digammas as means.
    """
    rate = math.exp(-log_alpha) / 2
    # float64 holds the Poisson distribution where it is not negligible.
    low, high = stats.poisson.interval(1 - 1e-15, rate)
    counts = range(max(0, int(low) - 50), int(high) + 51)
    mean = sum(stats.poisson.pmf(count, rate) * special.digamma(count + 0.5) for count in counts)
    return float(mean - special.digamma(0.5)) / 2


@pytest.mark.parametrize("log_alpha", LOG_ALPHAS)
def test_the_penalty_is_the_formula_of_the_paper(log_alpha: float) -> None:
    # -KL = k1 sigmoid(k2 + k3 log a) - log(1 + 1/a) / 2 - k1, as printed.
    inside = 1 / (1 + math.exp(-(1.87320 + 1.48695 * log_alpha)))
    negative = 0.63576 * inside - 0.5 * math.log(1 + math.exp(-log_alpha)) - 0.63576

    assert penalty_at(log_alpha) == pytest.approx(-negative, rel=1e-7)


@pytest.mark.parametrize("log_alpha", LOG_ALPHAS)
def test_the_penalty_is_near_the_exact_divergence(log_alpha: float) -> None:
    assert abs(penalty_at(log_alpha) - divergence(log_alpha)) < 0.01


@pytest.mark.parametrize("log_alpha", [-1.0, 1.0])
def test_the_exact_divergence_is_that_of_random_draws(log_alpha: float) -> None:
    noise = torch.randn(400_000, dtype=torch.float64, generator=generator(0))
    samples = (1 + math.exp(log_alpha / 2) * noise).abs().log() - log_alpha / 2 - noise.abs().log()

    error = samples.std().item() / math.sqrt(noise.numel())
    assert abs(samples.mean().item() - divergence(log_alpha)) < 4 * error


def test_the_penalty_depends_on_the_share_of_noise_alone() -> None:
    assert penalty_at(-1.0, weight=1e-3) == pytest.approx(penalty_at(-1.0, weight=-30.0), rel=1e-7)
    assert penalty_at(30.0) == pytest.approx(0.0, abs=1e-12)


def test_noise_has_the_mean_and_the_variance_that_are_learned() -> None:
    count = 200_000
    part = VariationalDropout((count,), log_variance=math.log(0.04), generator=generator(0))

    drawn = part(torch.full((count,), 0.7)).double()

    # Standard errors: 0.2 / sqrt(n) of the mean, 0.04 sqrt(2 / n) of the variance.
    assert abs(drawn.mean().item() - 0.7) < 4 * 0.2 / math.sqrt(count)
    assert abs(drawn.var().item() - 0.04) < 4 * 0.04 * math.sqrt(2 / count)


def test_weights_that_are_mostly_noise_are_absent_in_eval_mode() -> None:
    part = VariationalDropout((4,), log_variance=-2.0, generator=torch.Generator()).eval()
    # log alpha = -2 - 2 log|w| > 3 where |w| < exp(-2.5) = 0.0821
    weight = torch.tensor([1.0, -0.083, 0.081, 0.0])

    torch.testing.assert_close(part(weight), torch.tensor([1.0, -0.083, 0.0, 0.0]), rtol=0, atol=0)
    assert part.mask(weight).tolist() == [True, True, False, False]


def test_the_threshold_can_be_chosen() -> None:
    part = VariationalDropout((2,), log_variance=0.0, generator=torch.Generator(), threshold=1.0)

    # log alpha = -2 log|w|
    assert part.mask(torch.tensor([0.61, 0.60])).tolist() == [True, False]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("size", [1e-40, 1e-30, 1e-12, 1e12, 1e30])
def test_weights_of_any_size_have_finite_penalties_and_gradients(size: float, dtype: torch.dtype) -> None:
    part = VariationalDropout((1,), log_variance=-10.0, generator=torch.Generator()).to(dtype)
    weight = torch.tensor([size], dtype=dtype, requires_grad=True)

    value = part.penalty(weight)
    value.backward()

    assert value.isfinite()
    assert weight.grad is not None
    assert weight.grad.isfinite().all()
    assert part.log_variance.grad is not None
    assert part.log_variance.grad.isfinite().all()
