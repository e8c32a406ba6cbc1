import torch
from torch import Tensor

from gossamer.criteria import grasp

from .network import gradient, hidden_weight, loss, noise, scaled, slope_of_scaling


def squared_norm(weight: Tensor) -> Tensor:
    return gradient(loss, weight).square().sum()


def hessian_grad(weight: Tensor) -> Tensor:
    """Return H g from the explicit Hessian."""
    hessian: Tensor = torch.autograd.functional.hessian(loss, weight).flatten(2).flatten(0, 1)
    return torch.mv(hessian, gradient(loss, weight).flatten()).view(weight.shape)


def test_scores_keep_their_sign() -> None:
    assert grasp(torch.tensor([2.0, -1.0, 3.0]), torch.tensor([0.5, 3.0, 0.0])).tolist() == [1.0, -3.0, 0.0]


def test_a_score_is_half_the_slope_of_the_squared_gradient_when_the_weight_is_scaled() -> None:
    weight = hidden_weight()
    scores = grasp(weight, hessian_grad(weight))

    torch.testing.assert_close(2 * scores.double(), slope_of_scaling(squared_norm, weight), rtol=1e-6, atol=1e-6)
    assert (scores > 0).any()
    assert (scores < 0).any()


def test_the_hessian_need_not_be_formed() -> None:
    weight = hidden_weight().requires_grad_()
    (grad,) = torch.autograd.grad(loss(weight), weight, create_graph=True)
    (product,) = torch.autograd.grad((grad.detach() * grad).sum(), weight)

    torch.testing.assert_close(product, hessian_grad(weight.detach()), rtol=1e-10, atol=1e-12)


def test_shrinking_the_weight_of_the_largest_score_lowers_the_gradient_most() -> None:
    weight = hidden_weight()
    norms = torch.stack([squared_norm(shrunk) for shrunk in scaled(weight, 0.999)])

    assert int(grasp(weight, hessian_grad(weight)).argmax()) == int(norms.argmin())
    assert norms.min() < squared_norm(weight)


def test_on_a_quadratic_loss_the_score_is_exact_but_for_the_square_of_the_removed_gradient() -> None:
    # L = w^T H w / 2: g = H w, and without w_i the gradient is g - w_i H_i.
    root, weight = noise(3, 3, seed=0), noise(3, seed=1)
    hessian = root @ root.t()
    grad = hessian @ weight
    changes = torch.stack([(hessian @ pruned).square().sum() - grad.square().sum() for pruned in scaled(weight, 0.0)])
    square = weight.square() * hessian.square().sum(0)

    torch.testing.assert_close(-2 * grasp(weight, hessian @ grad).double() + square, changes, rtol=1e-5, atol=1e-5)
