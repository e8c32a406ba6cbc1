import pytest
import torch
from torch.nn import functional as F

from gossamer.criteria import wanda

from .network import noise


def test_a_small_weight_on_a_large_input_outweighs_a_large_one_on_a_small_input() -> None:
    weight = torch.tensor([[4.0, -0.5], [-1.0, 0.0]])

    assert wanda(weight, torch.tensor([0.5, 8.0])).tolist() == [[2.0, 4.0], [0.5, 0.0]]


def test_a_score_is_the_change_of_all_outputs_when_the_weight_goes_alone() -> None:
    weight, inputs = noise(3, 4, seed=0), noise(10, 4, seed=1)
    scores = wanda(weight, inputs.norm(dim=0))

    for out, column in torch.cartesian_prod(torch.arange(3), torch.arange(4)).tolist():
        pruned = weight.clone()
        pruned[out, column] = 0.0
        change = (inputs @ weight.t() - inputs @ pruned.t()).norm()

        torch.testing.assert_close(scores[out, column].double(), change, rtol=1e-6, atol=0.0)


def test_squares_add_up_over_several_weights_when_inputs_are_orthogonal() -> None:
    weight = noise(3, 4, seed=0)
    inputs = torch.linalg.qr(noise(10, 4, seed=1)).Q * torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    gone = noise(3, 4, seed=2) > 0
    change = inputs @ (weight * gone).t()

    squares = (wanda(weight, inputs.norm(dim=0)).double().square() * gone).sum(1)

    torch.testing.assert_close(squares, change.square().sum(0), rtol=1e-6, atol=0.0)


def test_a_convolution_is_judged_by_its_unfolded_inputs() -> None:
    weight, images = noise(3, 2, 3, 3, seed=0), noise(4, 2, 5, 5, seed=1)
    norm = F.unfold(images, 3).permute(0, 2, 1).flatten(0, 1).norm(dim=0)
    pruned = weight.clone()
    pruned[1, 1, 0, 2] = 0.0

    scores = wanda(weight, norm)

    change = (F.conv2d(images, weight) - F.conv2d(images, pruned)).norm()
    torch.testing.assert_close(scores[1, 1, 0, 2].double(), change, rtol=1e-6, atol=0.0)
    assert torch.equal(scores.flatten(1), wanda(weight.flatten(1), norm))


@pytest.mark.parametrize("shape", [(), (3,), (1,), (2, 2), (8,)], ids=str)
def test_norms_that_are_not_one_for_each_input_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"weight has shape \(3, 2, 2\), input_norm \("):
        wanda(torch.zeros(3, 2, 2), torch.zeros(shape))


@pytest.mark.parametrize("count", [1, 3])
def test_a_vector_of_weights_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=rf"weight has shape \(3,\), input_norm \({count},\)"):
        wanda(torch.zeros(3), torch.zeros(count))
