import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.criteria import taylor, taylor_activation, taylor_filter

from .network import gradient, hidden_weight, loss, noise, slope_of_scaling

_FEW = settings(deadline=None, max_examples=60, derandomize=True)
_SEEDS = st.integers(0, 1000)


def test_a_weight_scores_the_square_of_weight_times_gradient() -> None:
    assert taylor(torch.tensor([5.0, -1.0, 2.0]), torch.tensor([0.0, 2.0, 1.5])).tolist() == [0.0, 4.0, 9.0]


def test_the_root_of_a_score_is_the_slope_of_the_loss_when_the_weight_is_scaled() -> None:
    weight = hidden_weight()
    scores = taylor(weight, gradient(loss, weight))

    torch.testing.assert_close(scores.double().sqrt(), slope_of_scaling(loss, weight).abs(), rtol=1e-6, atol=1e-8)


def test_contributions_of_one_filter_cancel_before_they_are_squared() -> None:
    weight = torch.tensor([[2.0, -1.0], [1.0, 3.0]])
    grad = torch.tensor([[1.0, 2.0], [1.0, -1.0]])

    assert taylor_filter(weight, grad).tolist() == [0.0, 4.0]


def test_large_contributions_of_a_filter_cancel_without_rounding() -> None:
    weight = torch.tensor([[2.0**30, 1.0, -(2.0**30)]])

    assert taylor_filter(weight, torch.ones(1, 3)).tolist() == [1.0]


def test_filters_that_all_but_cancel_score_alike_however_they_lie_in_memory() -> None:
    half = noise(8, 64, seed=0)
    weight = torch.cat([half, 1e-13 - half], 1)

    grad = torch.ones_like(weight)
    assert torch.equal(taylor_filter(weight.t().contiguous().t(), grad), taylor_filter(weight, grad))


@_FEW
@given(units=st.integers(1, 4), channels=st.integers(1, 3), seed=_SEEDS)
def test_a_filter_scores_the_squared_sum_over_all_its_weights(units: int, channels: int, seed: int) -> None:
    weight, grad = noise(units, channels, 2, 2, seed=seed), noise(units, channels, 2, 2, seed=seed + 1)
    sums = [
        sum(float(w * g) for w, g in zip(row.flatten(), slopes.flatten(), strict=True))
        for row, slopes in zip(weight, grad, strict=True)
    ]

    expected = torch.tensor(sums, dtype=torch.float64).square().float()
    torch.testing.assert_close(taylor_filter(weight, grad), expected, rtol=1e-6, atol=1e-12)


def test_the_root_of_a_filter_s_score_is_the_slope_of_the_loss_when_the_filter_is_scaled() -> None:
    weight, step = hidden_weight(), 1e-5
    scores = taylor_filter(weight, gradient(loss, weight))

    for unit in range(4):
        change = torch.zeros_like(weight)
        change[unit] = step * weight[unit]
        slope = (loss(weight + change) - loss(weight - change)) / (2 * step)

        torch.testing.assert_close(scores[unit].double().sqrt(), slope.abs(), rtol=1e-6, atol=1e-8)


def test_samples_of_a_unit_do_not_cancel_and_units_are_taken_to_length_one() -> None:
    products = torch.tensor([[2.0, -2.0, 0.0], [-2.0, 2.0, 0.0], [0.5, 0.0, 0.0], [-1.5, -4.0, 0.0]])

    # Means of the absolute values: 1.5, 2, 0, of length 2.5.
    torch.testing.assert_close(taylor_activation(products), torch.tensor([0.6, 0.8, 0.0]), rtol=1e-7, atol=0.0)


@_FEW
@given(num_samples=st.integers(1, 5), units=st.integers(1, 6), exponent=st.integers(-60, 60), seed=_SEEDS)
def test_activation_scores_have_length_one_whatever_the_scale_of_the_loss(
    num_samples: int, units: int, exponent: int, seed: int
) -> None:
    products = noise(num_samples, units, seed=seed)
    scores = taylor_activation(products * 2.0**exponent)

    assert abs(float(scores.norm()) - 1.0) < 1e-6
    assert torch.equal(scores, taylor_activation(products))


def test_a_product_is_the_slope_of_a_sample_s_loss_when_the_unit_is_scaled() -> None:
    readers, targets, step = noise(2, 4, seed=2), noise(6, 2, seed=3), 1e-5
    activations = noise(6, 4, seed=1).requires_grad_()
    (grad,) = torch.autograd.grad((activations @ readers.t() - targets).square().sum(), activations)
    slopes = torch.zeros(6, 4, dtype=torch.float64)
    for unit in range(4):
        change = torch.zeros(4, dtype=torch.float64)
        change[unit] = step
        up, down = (((activations * (1 + s * change)) @ readers.t() - targets).square().sum(1) for s in (1, -1))
        slopes[:, unit] = ((up - down) / (2 * step)).detach()

    expected = slopes.abs().mean(0) / slopes.abs().mean(0).norm()
    torch.testing.assert_close(taylor_activation(activations * grad).double(), expected, rtol=1e-6, atol=0.0)


def test_units_without_any_product_score_zero_and_not_nan() -> None:
    assert taylor_activation(torch.zeros(3, 2)).tolist() == [0.0, 0.0]


def test_scores_without_a_sample_are_refused() -> None:
    with pytest.raises(ValueError, match=r"activation_products has shape \(0, 3\)"):
        taylor_activation(torch.zeros(0, 3))
