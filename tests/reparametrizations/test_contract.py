import copy
import io

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from gossamer import reparametrizations

from .cases import CASES, CLASSES, Case, layer_of, normal, part_of

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
penalized = pytest.mark.parametrize("case", [case for case in CASES if case.penalized], ids=lambda case: case.name)
random = pytest.mark.parametrize("case", [case for case in CASES if case.random], ids=lambda case: case.name)
SHAPELESS = ("SoftThreshold", "TargetedDropout")
shaped = pytest.mark.parametrize("case", [c for c in CASES if c.name not in SHAPELESS], ids=lambda case: case.name)


def test_the_table_holds_every_public_class() -> None:
    assert [case.name for case in CASES] == CLASSES


@every_case
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (4, 5), (2, 3, 3, 3)], ids=str)
def test_values_are_finite_and_of_shape_and_type_of_the_weight(
    case: Case, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    weight = normal(shape, 0).to(dtype)
    part = case.make(weight, 0)

    for training in (True, False):
        value = part.train(training)(weight)

        assert (value.shape, value.dtype) == (shape, dtype)
        assert value.isfinite().all()


@every_case
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_whole_model_can_be_cast(case: Case, dtype: torch.dtype) -> None:
    layer = layer_of(case).to(dtype)

    layer(normal((2, 8), 3).to(dtype)).sum().backward()

    assert layer.weight.dtype == dtype
    assert all(p.grad is None or p.grad.dtype == dtype for p in layer.parameters())


@every_case
def test_the_weight_is_left_as_it_is(case: Case) -> None:
    weight = normal((4, 5), 0)
    before, part = weight.clone(), case.make(weight, 0)

    for training in (True, False):
        part.train(training)(weight).fill_(7.0)
    part.mask(weight).fill_(True)

    assert torch.equal(weight, before)


@every_case
def test_zeros_in_eval_mode_are_where_the_mask_has_them(case: Case) -> None:
    weight = normal((20, 30), 0)
    part = case.make(weight, 0).eval()

    mask = part.mask(weight)

    assert (mask.shape, mask.dtype) == (weight.shape, torch.bool)
    assert torch.equal(part(weight) != 0, mask)
    assert 0.3 < mask.double().mean() < 0.7


@every_case
def test_strides_do_not_change_values_and_mask(case: Case) -> None:
    weight = normal((6, 4, 2, 2), 0)
    part = case.make(weight, 0).eval()

    for view in (
        weight.to(memory_format=torch.channels_last),
        weight.permute(2, 3, 0, 1).contiguous().permute(2, 3, 0, 1),
    ):
        assert torch.equal(part(view), part(weight))
        assert torch.equal(part.mask(view), part.mask(weight))


@every_case
def test_eval_mode_is_deterministic_and_training_is_as_random_as_the_table_says(case: Case) -> None:
    layer = layer_of(case)

    assert torch.equal(layer.weight, layer.weight) is not case.random
    layer.eval()
    assert torch.equal(layer.weight, layer.weight)


@every_case
def test_the_same_seed_draws_the_same(case: Case) -> None:
    first, second = layer_of(case, seed=5), layer_of(case, seed=5)

    assert torch.equal(first.weight, second.weight)


@every_case
def test_a_deep_copy_draws_the_same_and_shares_nothing(case: Case) -> None:
    layer = layer_of(case)
    twin = copy.deepcopy(layer)
    expected = [layer.weight.detach().clone() for _ in range(2)]

    # The copy's generator stands where the first one stood when it was copied.
    assert all(torch.equal(twin.weight, value) for value in expected)
    assert not {p.data_ptr() for p in twin.parameters()} & {p.data_ptr() for p in layer.parameters()}


@random
def test_a_copied_model_keeps_a_shared_generator_shared(case: Case) -> None:
    model = nn.Sequential(layer_of(case), layer_of(case))
    part_of(model[1])._generator = part_of(model[0])._generator

    twin = copy.deepcopy(model)

    assert part_of(twin[1])._generator is part_of(twin[0])._generator
    assert part_of(twin[0])._generator is not part_of(model[0])._generator


@every_case
def test_a_saved_state_brings_back_values_mask_and_the_next_draws(case: Case) -> None:
    layer, other = layer_of(case, seed=0), layer_of(case, seed=1)
    for parameter in other.parameters():
        parameter.data.zero_()
    _ = layer.weight

    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))

    assert torch.equal(other.weight, layer.weight)
    assert torch.equal(reparametrizations.mask(other), reparametrizations.mask(layer))


@every_case
def test_gradients_reach_all_that_is_learned_and_are_finite(case: Case) -> None:
    layer = layer_of(case)

    loss = layer(normal((16, 8), 3)).square().sum()
    if case.penalized:
        loss = loss + reparametrizations.penalty(layer)
    loss.backward()

    for parameter in layer.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any()


@every_case
@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_of_zero_make_no_nan(case: Case, dtype: torch.dtype) -> None:
    layer = layer_of(case, dtype=dtype)
    layer.get_parameter("parametrizations.weight.original").data.zero_()

    loss = layer.weight.sum()
    if case.penalized:
        loss = loss + reparametrizations.penalty(layer)
    loss.backward()

    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters())


@penalized
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_penalty_is_a_scalar_at_least_float32_and_draws_nothing(case: Case, dtype: torch.dtype) -> None:
    layer, twin = layer_of(case).to(dtype), layer_of(case).to(dtype)

    value = reparametrizations.penalty(layer)

    assert (value.shape, value.dtype) == ((), torch.float64 if dtype == torch.float64 else torch.float32)
    assert value.item() > 0
    assert torch.equal(layer.weight, twin.weight)


@penalized
def test_the_gradient_of_the_penalty_is_that_of_finite_differences(case: Case) -> None:
    weight = normal((3, 4), 0).double().requires_grad_()
    part = case.make(weight, 0).double()
    (learned,) = part.parameters()

    assert torch.autograd.gradcheck(lambda weight, _: part.penalty(weight), (weight, learned))


@shaped
def test_a_weight_of_another_shape_is_refused(case: Case) -> None:
    part = case.make(normal((4, 5), 0), 0)

    for call in (part, part.eval(), part.mask, *([part.penalty] if case.penalized else [])):
        with pytest.raises(ValueError, match=r"\(4, 5\).*\(4, 6\)"):
            call(normal((4, 6), 0))


@every_case
def test_a_convolution_can_be_parametrized(case: Case) -> None:
    layer = nn.Conv2d(3, 4, 3)
    parametrize.register_parametrization(layer, "weight", case.make(layer.weight.detach(), 0))

    assert layer(normal((2, 3, 5, 5), 0)).shape == (2, 4, 3, 3)
