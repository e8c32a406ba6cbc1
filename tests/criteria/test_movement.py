import torch

from gossamer.criteria import movement

from .network import gradient, hidden_weight, loss


def test_weights_that_descent_moves_away_from_zero_score_above_it() -> None:
    weight = torch.tensor([2.0, 2.0, -1.0, -1.0])

    assert movement(weight, torch.tensor([0.5, -0.5, 3.0, -3.0])).tolist() == [-1.0, 1.0, 3.0, -3.0]


def test_a_score_is_half_the_growth_of_the_squared_weight_for_each_unit_of_the_learning_rate() -> None:
    weight, lr = hidden_weight(), 1e-3
    grad = gradient(loss, weight)
    moved = weight - lr * grad
    growth = (moved.square() - weight.square()) / (2 * lr)

    # The step itself adds lr g^2 / 2 to the growth.
    torch.testing.assert_close(movement(weight, grad).double(), growth - lr * grad.square() / 2, rtol=1e-6, atol=1e-9)
