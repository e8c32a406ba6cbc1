import pytest
import torch
from torch import nn

from gossamer.reparametrizations import StraightThrough, StraightThroughThreshold

from .cases import normal


def test_the_largest_scores_stay_and_both_gradients_pass_the_mask_by() -> None:
    part = StraightThrough(torch.tensor([0.1, 3.0, 2.0, -5.0]), num_active=2)
    weight = torch.tensor([5.0, -6.0, 7.0, 8.0], requires_grad=True)

    value = part(weight)
    (value * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()

    assert value.tolist() == [0.0, -6.0, 7.0, 0.0]
    assert weight.grad is not None
    assert part.scores.grad is not None
    assert weight.grad.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert part.scores.grad.tolist() == [5.0, -12.0, 21.0, 32.0]


@pytest.mark.parametrize("count", [0, 1, 5, 12])
def test_equal_scores_keep_the_exact_number(count: int) -> None:
    part = StraightThrough(torch.zeros(3, 4), num_active=count)

    assert int(part(torch.ones(3, 4)).count_nonzero()) == count


def test_only_a_score_above_the_threshold_stays() -> None:
    part = StraightThroughThreshold(torch.tensor([0.5, 0.51, -1.0]), threshold=0.5)
    weight = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)

    value = part(weight)
    value.sum().backward()

    assert value.tolist() == [0.0, 2.0, 0.0]
    assert weight.grad is not None
    assert part.scores.grad is not None
    assert weight.grad.tolist() == [1.0, 1.0, 1.0]
    assert part.scores.grad.tolist() == [1.0, 2.0, 3.0]


def test_the_penalty_of_scores_is_the_sum_of_their_sigmoids() -> None:
    part = StraightThroughThreshold(torch.logit(torch.tensor([0.25, 0.5, 0.5])), threshold=0.0)

    assert part.penalty(torch.ones(3)).item() == pytest.approx(1.25, rel=1e-6)


def test_the_given_scores_are_copied_and_at_least_float32() -> None:
    scores = torch.ones(3, dtype=torch.bfloat16)
    part = StraightThrough(scores, num_active=1)
    part.scores.data.zero_()

    assert scores.tolist() == [1.0] * 3
    assert part.scores.dtype == torch.float32
    assert StraightThroughThreshold(scores.double(), threshold=0.0).scores.dtype == torch.float64


def test_the_number_can_be_changed_and_is_saved() -> None:
    part, other = StraightThrough(torch.arange(5.0), num_active=4), StraightThrough(torch.zeros(5), num_active=1)
    part.set_num_active_(2)

    other.load_state_dict(part.state_dict())

    assert other.num_active == 2
    assert other.mask(torch.ones(5)).tolist() == [False, False, False, True, True]


@pytest.mark.parametrize("count", [-1, 6])
def test_a_number_that_there_are_not_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=rf"num_active must lie in \[0, 5\], got {count}"):
        StraightThrough(torch.zeros(5), num_active=count)


def test_random_weights_that_are_not_trained_learn_by_their_mask_alone() -> None:
    layer = nn.Linear(20, 1, bias=False)
    layer.weight.data = normal((1, 20), 0).sign()
    layer.weight.requires_grad_(False)
    before = layer.weight.clone()
    # Targets that the second half of the weights makes without the first.
    inputs = normal((200, 20), 1)
    targets = inputs[:, 10:] @ before[0, 10:, None]
    part = StraightThrough(torch.linspace(1, 0, 20)[None], num_active=10)
    nn.utils.parametrize.register_parametrization(layer, "weight", part)
    optimizer = torch.optim.SGD(part.parameters(), lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        (layer(inputs) - targets).square().mean().backward()
        optimizer.step()

    assert part.mask(before)[0].nonzero().flatten().tolist() == list(range(10, 20))
    assert torch.equal(layer.get_parameter("parametrizations.weight.original"), before)
