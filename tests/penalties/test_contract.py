import pytest
import torch
from torch import Tensor

from gossamer import penalties

from .cases import PENALTIES, STEPS, Case

SHAPES = [(0,), (0, 3), (3, 0), (), (1,), (7,), (4, 5), (2, 3, 3, 3)]
every_penalty = pytest.mark.parametrize("case", PENALTIES, ids=lambda case: case.name)
every_step = pytest.mark.parametrize("case", STEPS, ids=lambda case: case.name)
both = pytest.mark.parametrize("case", PENALTIES + STEPS, ids=lambda case: case.name)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_tables_hold_every_public_function() -> None:
    assert sorted(case.name for case in PENALTIES + STEPS) == sorted(penalties.__all__)


@every_penalty
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_penalty_is_a_finite_scalar_whose_gradient_has_shape_and_type_of_the_weight(
    case: Case, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    weight = normal(*shape).to(dtype).requires_grad_()

    value = case.call(weight)
    (gradient,) = torch.autograd.grad(value, weight)

    assert (value.shape, value.dtype) == ((), torch.float64 if dtype == torch.float64 else torch.float32)
    assert (gradient.shape, gradient.dtype) == (shape, dtype)
    assert value.isfinite()
    assert gradient.isfinite().all()


@every_step
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_step_keeps_shape_and_type_and_lengthens_nothing(
    case: Case, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    weight = normal(*shape).to(dtype)

    stepped = case.call(weight)

    assert (stepped.shape, stepped.dtype) == (shape, dtype)
    assert (stepped.abs() <= weight.abs()).all()


@every_penalty
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (4, 5)], ids=str)
def test_a_weight_without_entries_or_with_zeros_alone_costs_nothing_and_pulls_nowhere(
    case: Case, shape: tuple[int, ...]
) -> None:
    weight = torch.zeros(shape, requires_grad=True)

    value = case.call(weight)
    (gradient,) = torch.autograd.grad(value, weight)

    assert value.item() == 0.0
    assert torch.equal(gradient, torch.zeros(shape))


@every_penalty
def test_a_zero_among_weights_feels_no_nan(case: Case) -> None:
    weight = torch.tensor([[0.0, 0.0], [0.0, 3.0]], requires_grad=True)

    (gradient,) = torch.autograd.grad(case.call(weight), weight)

    assert gradient.isfinite().all()


@every_penalty
def test_the_gradient_is_that_of_finite_differences(case: Case) -> None:
    weight = normal(3, 4).double().requires_grad_()

    assert torch.autograd.gradcheck(case.call, (weight,))


@both
def test_the_weight_is_left_as_it_is_and_shares_no_memory_with_the_result(case: Case) -> None:
    weight = torch.tensor([[1.0, -2.0], [0.0, 3.0]])
    before = weight.clone()

    case.call(weight).fill_(7.0)

    assert torch.equal(weight, before)


@every_step
def test_a_step_carries_no_gradient(case: Case) -> None:
    assert not case.call(torch.ones(2, 2, requires_grad=True)).requires_grad


@both
def test_strides_do_not_change_the_result(case: Case) -> None:
    weight = normal(6, 4)

    for view in (weight.t(), weight[::2], weight.t()[1:, ::2], weight[:1].expand(3, 4)):
        # Another order of summation may round otherwise.
        torch.testing.assert_close(
            case.call(view), case.call(view.clone(memory_format=torch.contiguous_format)), rtol=4e-7, atol=1e-6
        )


@both
@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_magnitudes_whose_squares_no_float32_holds_are_computed_like_those_of_float64(
    case: Case, factor: float
) -> None:
    weight = normal(4, 5) * factor

    torch.testing.assert_close(case.call(weight).double(), case.call(weight.double()), rtol=1e-6, atol=0.0)


@every_penalty
def test_half_precision_sums_in_float32(case: Case) -> None:
    weight = normal(64, 64).bfloat16()

    assert torch.equal(case.call(weight), case.call(weight.float()))


@both
def test_a_nan_is_not_hidden(case: Case) -> None:
    weight = torch.ones(2, 2)
    weight[1, 1] = torch.nan

    assert case.call(weight).isnan().any()


@every_step
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_step_leaves_exact_zeros(case: Case, dtype: torch.dtype) -> None:
    weight = torch.tensor([[0.3, -0.2, 0.1], [3.0, -2.0, 1.0]], dtype=dtype)

    stepped = case.call(weight)

    assert stepped.count_nonzero(1).tolist() == [0, 3]
    assert not stepped.signbit()[0].any()


@pytest.mark.parametrize("threshold", [-0.1, float("nan")])
def test_a_threshold_below_zero_is_refused(threshold: float) -> None:
    weight = torch.ones(2)
    with pytest.raises(ValueError, match="threshold must be 0 or more"):
        penalties.l1_step(weight, threshold=threshold)
    with pytest.raises(ValueError, match="threshold must be 0 or more"):
        penalties.group_lasso_step(weight, torch.tensor([0, 0]), threshold=threshold)


@pytest.mark.parametrize("penalty", [penalties.group_lasso, penalties.group_hoyer_square])
def test_groups_of_another_shape_or_type_are_refused(penalty: object) -> None:
    assert callable(penalty)
    with pytest.raises(ValueError, match=r"weight has shape \(2, 3\), groups \(2, 1\); they must agree"):
        penalty(torch.ones(2, 3), torch.zeros(2, 1, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"groups has type torch.float32; number the group"):
        penalty(torch.ones(2, 3), torch.zeros(2, 3))
