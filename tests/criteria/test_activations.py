import torch

from gossamer.criteria import apoz, energy, mean_activation, output_variance

from .network import noise

# Four samples of three units.
ACTIVATIONS = torch.tensor([[0.0, 2.0, -1.0], [0.0, 2.0, 1.0], [0.0, 2.0, 0.0], [4.0, 2.0, 0.0]])


def test_apoz_scores_the_share_of_samples_in_which_a_unit_is_not_zero() -> None:
    assert apoz((ACTIVATIONS == 0).float().mean(0)).tolist() == [0.25, 1.0, 0.5]


def test_mean_activation_scores_the_mean_absolute_value() -> None:
    assert mean_activation(ACTIVATIONS.abs().mean(0)).tolist() == [1.0, 2.0, 0.5]


def test_energy_scores_the_mean_square() -> None:
    assert energy(ACTIVATIONS.square().mean(0)).tolist() == [4.0, 4.0, 0.5]


def test_a_constant_unit_has_no_output_variance() -> None:
    assert output_variance(ACTIVATIONS.var(0, correction=0)).tolist() == [3.0, 0.0, 0.5]


def test_folding_the_mean_into_the_bias_leaves_the_squared_error_that_the_score_says() -> None:
    activations, outgoing = noise(50, 3, seed=0) + 1.0, noise(3, seed=1)
    scores = output_variance(activations.var(0, correction=0))

    for gone in range(3):
        error = outgoing[gone] * (activations[:, gone] - activations[:, gone].mean())

        torch.testing.assert_close(scores[gone] * outgoing[gone] ** 2, error.square().mean(), rtol=1e-6, atol=0.0)
