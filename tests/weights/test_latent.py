import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from gossamer import Sparsifier
from gossamer.weights import MaskedWeight

MASK = torch.tensor([[True, False], [False, True]])
NONE = torch.empty(0, dtype=torch.int64)


def weight_with(*, trained: bool) -> MaskedWeight:
    weight = MaskedWeight("w", nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]])))
    weight.keep_latent_(trained=trained)
    weight.set_mask_(MASK)
    return weight


def held(weight: MaskedWeight, lr: float = 1.0) -> tuple[Sparsifier, Optimizer]:
    optimizer = SGD([weight.parameter], lr=lr)
    return Sparsifier([weight], optimizer, updates=[], generator=torch.Generator()), optimizer


def latent_of(weight: MaskedWeight) -> Tensor:
    assert weight.latent is not None
    return weight.latent


@pytest.mark.parametrize("trained", [False, True])
def test_a_mask_hides_values_and_shows_them_again(trained: bool) -> None:
    weight = weight_with(trained=trained)

    assert weight.parameter.tolist() == [[1.0, 0.0], [0.0, 4.0]]
    assert latent_of(weight).tolist() == [[0.0, 2.0], [3.0, 0.0]]
    assert weight.dense_values().tolist() == [[1.0, 2.0], [3.0, 4.0]]
    weight.set_mask_(~MASK)
    assert weight.parameter.tolist() == [[0.0, 2.0], [3.0, 0.0]]
    assert latent_of(weight).tolist() == [[1.0, 0.0], [0.0, 4.0]]


def test_without_them_a_mask_forgets() -> None:
    weight = MaskedWeight("w", nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]])))
    weight.set_mask_(MASK)
    weight.set_mask_(torch.ones(2, 2, dtype=torch.bool))

    assert weight.latent is None
    assert weight.parameter.tolist() == weight.dense_values().tolist() == [[1.0, 0.0], [0.0, 4.0]]


def test_dense_values_are_a_copy() -> None:
    weight = MaskedWeight("w", nn.Parameter(torch.ones(2, 2)))
    weight.dense_values().fill_(5.0)

    assert weight.parameter.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_a_change_hides_what_it_drops_and_takes_out_what_it_grows() -> None:
    weight = weight_with(trained=False)
    weight.change_(torch.tensor([1]), torch.tensor([2]), torch.tensor([9.0]), None)

    assert weight.parameter.tolist() == [[0.0, 0.0], [9.0, 4.0]]
    assert latent_of(weight).tolist() == [[1.0, 2.0], [0.0, 0.0]]


def test_trained_ones_get_the_gradient_at_the_masked_values_and_the_optimizer_moves_them() -> None:
    weight = weight_with(trained=True)
    _, optimizer = held(weight)
    seen = weight.parameter * 1.0
    (seen * torch.tensor([[1.0, 10.0], [100.0, 1000.0]])).sum().backward()
    optimizer.step()

    assert seen.tolist() == [[1.0, 0.0], [0.0, 4.0]]
    assert weight.parameter.tolist() == [[0.0, 0.0], [0.0, -996.0]]
    assert latent_of(weight).tolist() == [[0.0, -8.0], [-97.0, 0.0]]


def test_frozen_ones_stay_whatever_the_optimizer_does() -> None:
    weight = weight_with(trained=False)
    _, optimizer = held(weight)
    weight.parameter.sum().backward()
    optimizer.step()

    assert weight.parameter.tolist() == [[0.0, 0.0], [0.0, 3.0]]
    assert latent_of(weight).tolist() == [[0.0, 2.0], [3.0, 0.0]]


def test_clipping_sees_the_gradient_of_trained_ones() -> None:
    norms = []
    for trained in (False, True):
        weight = weight_with(trained=trained)
        held(weight)
        (weight.parameter * 3.0).sum().backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_([weight.parameter], 100.0)))

    assert norms == [pytest.approx(18**0.5), pytest.approx(6.0)]


def test_a_state_loads_into_a_weight_with_another_mask() -> None:
    source, target = weight_with(trained=True), weight_with(trained=True)
    target.set_mask_(~MASK)
    saved = held(source)[0].state_dict()
    held(target)[0].load_state_dict(saved)
    latent_of(source).fill_(0.0)

    assert torch.equal(target.mask, MASK)
    assert latent_of(target).tolist() == [[0.0, 2.0], [3.0, 0.0]]


def test_finalizing_forgets_them_and_leaves_the_masked_values() -> None:
    weight = weight_with(trained=True)
    sparsifier, _ = held(weight)
    sparsifier.finalize()

    assert weight.latent is None
    assert not weight.trains_latent
    assert weight.parameter.tolist() == [[1.0, 0.0], [0.0, 4.0]]


def test_the_dtype_is_that_of_the_weight() -> None:
    weight = MaskedWeight("w", nn.Parameter(torch.ones(2, 2, dtype=torch.bfloat16)))
    weight.keep_latent_(trained=True)
    weight.set_mask_(MASK)
    weight.change_(NONE, torch.tensor([1]), torch.tensor([0.5]), None)

    assert latent_of(weight).dtype == weight.dense_values().dtype == torch.bfloat16
    assert weight.parameter.tolist() == [[0.0, 0.5], [0.0, 0.0]]
