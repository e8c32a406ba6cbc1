import torch

from gossamer.criteria import sensitivity

from .network import noise


def test_the_mean_absolute_derivative_is_the_score() -> None:
    assert sensitivity(torch.tensor([[0.0, 2.5], [1.0, 0.25]])).tolist() == [[0.0, 2.5], [1.0, 0.25]]


def test_weights_of_a_silent_input_and_of_an_unread_unit_score_zero() -> None:
    inputs, readers = noise(6, 3, seed=0), noise(2, 4, seed=1)
    inputs[:, 1] = 0.0
    readers[:, 2] = 0.0
    weight = noise(4, 3, seed=2).requires_grad_()
    derivatives = [torch.autograd.grad((readers @ (weight @ row).tanh()).sum(), weight)[0] for row in inputs]

    scores = sensitivity(torch.stack(derivatives).abs().mean(0))

    expected = torch.ones(4, 3, dtype=torch.bool)
    expected[:, 1] = expected[2] = False
    assert torch.equal(scores > 0, expected)
