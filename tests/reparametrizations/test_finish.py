import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

import gossamer as gs
from gossamer.reparametrizations import HardConcrete, SoftThreshold, finish_, mask, penalty

from .cases import CASES, Case, layer_of, normal

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@every_case
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_outputs_are_those_of_eval_mode_to_the_bit(case: Case, training: bool, dtype: torch.dtype) -> None:
    layer, inputs = layer_of(case, dtype=dtype), normal((5, 8), 2).to(dtype)
    expected, stays = layer.eval()(inputs), mask(layer)
    layer.train(training)

    finish_(layer)

    assert torch.equal(layer(inputs), expected)
    assert torch.equal(layer.weight != 0, stays)
    assert 0 < int(stays.sum()) < stays.numel()


@every_case
def test_the_layer_is_an_ordinary_one_with_the_parameter_it_had(case: Case) -> None:
    layer = nn.Linear(8, 6)
    before = layer.weight
    parametrize.register_parametrization(layer, "weight", case.make(layer.weight.detach(), 0))
    layer(normal((5, 8), 2)).sum().backward()

    finish_(layer)

    assert type(layer) is nn.Linear
    assert layer.weight is before
    assert layer.weight.requires_grad
    assert layer.weight.grad is None
    assert sorted(layer.state_dict()) == ["bias", "weight"]


@every_case
def test_a_finished_model_can_be_made_truly_sparse(case: Case) -> None:
    layer = layer_of(case)
    model = nn.Sequential(layer, nn.ReLU(), nn.Linear(6, 2))
    inputs = normal((5, 8), 2)
    finish_(layer)

    sparse = gs.to_sparse(model)
    first = sparse.get_submodule("0")

    assert isinstance(first, gs.nn.SparseLinear)
    assert first.num_active == int(layer.weight.count_nonzero())
    torch.testing.assert_close(sparse(inputs), model(inputs), rtol=1e-5, atol=1e-6)


def test_another_tensor_than_the_weight_can_be_finished() -> None:
    layer = nn.Linear(4, 3)
    layer.bias.data = torch.tensor([0.4, 0.6, -1.0])
    parametrize.register_parametrization(layer, "bias", SoftThreshold(raw_threshold=0.0))

    finish_(layer, "bias")

    torch.testing.assert_close(layer.bias.detach(), torch.tensor([0.0, 0.1, -0.5]), rtol=1e-6, atol=0)


def test_a_weight_that_is_not_parametrized_is_refused() -> None:
    layer = nn.Linear(4, 3)
    parametrize.register_parametrization(layer, "bias", SoftThreshold(raw_threshold=0.0))

    with pytest.raises(ValueError, match="weight of ParametrizedLinear is not parametrized"):
        finish_(layer)
    with pytest.raises(ValueError, match="weight of Linear is not parametrized"):
        mask(nn.Linear(4, 3))


def test_the_penalties_of_a_model_add_up() -> None:
    generator, model = torch.Generator(), nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2), nn.Linear(2, 2))
    for layer, shape in ((model[0], (3, 4)), (model[1], (2, 1))):
        gates = HardConcrete(shape, log_alpha=0.5, generator=generator)
        parametrize.register_parametrization(layer, "weight", gates)
    parametrize.register_parametrization(model[2], "weight", SoftThreshold(raw_threshold=0.0))

    # All 12 + 6 weights have the same probability to be there.
    each = torch.sigmoid(torch.tensor(0.5) + 2 / 3 * torch.tensor(11.0).log())
    torch.testing.assert_close(penalty(model).detach(), 18 * each)


def test_a_model_without_a_penalty_is_refused() -> None:
    layer = nn.Linear(4, 3)
    parametrize.register_parametrization(layer, "weight", SoftThreshold(raw_threshold=0.0))

    with pytest.raises(ValueError, match="ParametrizedLinear has no reparametrization with a penalty"):
        penalty(layer)


def test_a_weight_with_two_parametrizations_has_no_mask_of_its_own_but_can_be_finished() -> None:
    layer = nn.Linear(4, 3)
    parametrize.register_parametrization(layer, "weight", SoftThreshold(raw_threshold=-1.0))
    parametrize.register_parametrization(
        layer, "weight", HardConcrete((3, 1), log_alpha=0.0, generator=torch.Generator())
    )
    expected = layer.eval().weight

    for ask in (mask, penalty):
        with pytest.raises(ValueError, match="weight goes through SoftThreshold, HardConcrete"):
            ask(layer)
    finish_(layer)
    assert torch.equal(layer.weight, expected)
