import math

import pytest
import torch
from torch import Tensor

from gossamer import solvers

from .cases import CASES, Case, make_inputs

SHAPES = [(0, 3), (3, 0), (1, 1), (1, 7), (4, 6), (3, 2, 2, 2)]
OF_OTHER_KINDS = {
    "LowRankInverse",
    "Merged",
    "MergedWithBias",
    "Solution",
    "fold_mean",
    "inverse_fisher",
    "l_obs_scores",
    "m_fac_inverse",
    "m_fac_scores",
    "merge_correlated",
    "merge_similar",
    "obs_scores",
    "woodfisher_scores",
    "woodtaylor_scores",
}
every_solver = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
counted = pytest.mark.parametrize("case", [case for case in CASES if case.argument], ids=lambda case: case.name)
on_a_gram = pytest.mark.parametrize(
    "case", [case for case in CASES if case.reads == "input_gram"], ids=lambda case: case.name
)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_table_holds_every_public_solver() -> None:
    assert sorted(case.name for case in CASES) == sorted({*solvers.__all__} - OF_OTHER_KINDS)


@every_solver
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shape_dtype_count_and_zeros_are_exact(case: Case, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    weight = draw(*shape).to(dtype)
    inputs, units = make_inputs(weight), case.units(weight)

    for kept in {case.least, units // 2, max(case.least, units)} - {0 if case.least else -1}:
        found = case.solve(weight, inputs, kept)
        assert found.mask.shape == found.weight.shape == weight.shape
        assert (found.mask.dtype, found.weight.dtype) == (torch.bool, dtype)
        assert int(found.mask.sum()) == (kept * case.unit(weight.shape) if weight.numel() else 0)
        assert not found.weight[~found.mask].any()
        assert found.weight.isfinite().all()
        assert 0.0 <= found.loss_increase < math.inf


@every_solver
def test_arguments_stay_as_they_are_and_share_no_memory_with_the_solution(case: Case) -> None:
    weight = draw(4, 6).requires_grad_()
    inputs = make_inputs(weight)
    before = [tensor.detach().clone() for tensor in (weight, *inputs)]

    found = case.solve(weight, inputs, 3)
    found.weight.fill_(7.0)
    found.mask.fill_(False)

    assert not found.weight.requires_grad
    assert all(torch.equal(now, then) for now, then in zip((weight, *inputs), before, strict=True))


@every_solver
def test_strides_do_not_change_the_solution(case: Case) -> None:
    wide = draw(6, 8)

    for view in (wide.t(), wide[::2], wide.t()[1:, ::2], wide[:1].expand(3, 8)):
        inputs = make_inputs(view)
        found, expected = case.solve(view, inputs, 3), case.solve(view.clone(), inputs, 3)
        assert torch.equal(found.mask, expected.mask)
        assert torch.equal(found.weight, expected.weight)


@every_solver
def test_equal_weights_are_kept_in_exact_number(case: Case) -> None:
    weight = torch.full((3, 4), -0.5)
    inputs = make_inputs(weight)._replace(
        hessian=torch.eye(12), input_gram=torch.eye(4), sample_grads=torch.ones(2, 3, 4)
    )

    for kept in range(case.least, case.units(weight) + 1):
        assert int(case.solve(weight, inputs, kept).mask.sum()) == kept * case.unit(weight.shape)


@every_solver
def test_keeping_all_changes_nothing(case: Case) -> None:
    weight = draw(4, 6)

    found = case.solve(weight, make_inputs(weight), case.units(weight))

    assert found.mask.all()
    assert torch.equal(found.weight, weight)
    assert found.loss_increase == 0.0


@every_solver
def test_keeping_none_leaves_zeros(case: Case) -> None:
    weight = draw(4, 6)
    if case.least:
        pytest.skip("keeps one of each group")

    found = case.solve(weight, make_inputs(weight), 0)

    assert not found.mask.any()
    assert torch.equal(found.weight, torch.zeros_like(weight))
    assert found.loss_increase > 0.0


@counted
def test_a_count_out_of_range_is_refused_with_the_range(case: Case) -> None:
    weight = draw(4, 6)
    inputs, units = make_inputs(weight), case.units(weight)

    for count in (case.least - 1, units + 1):
        with pytest.raises(ValueError, match=rf"{case.argument} must lie in \[{case.least}, {units}\].*got {count}"):
            case.solve(weight, inputs, count)


@every_solver
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_numbers_are_refused(case: Case, value: float) -> None:
    weight = draw(4, 6)
    inputs = make_inputs(weight)
    broken, spoilt = weight.clone(), getattr(inputs, case.reads).clone()
    broken[1, 2] = spoilt.view(-1)[3] = value

    with pytest.raises(ValueError, match=r"weight holds 1 value.* NaN or infinite"):
        case.solve(broken, inputs, 2)
    with pytest.raises(ValueError, match=f"{case.reads} holds .* NaN or infinite"):
        case.solve(weight, inputs._replace(**{case.reads: spoilt}), 2)


@every_solver
def test_inputs_of_another_weight_are_refused(case: Case) -> None:
    weight = draw(4, 6)

    with pytest.raises(ValueError, match=f"{case.reads} must have shape"):
        case.solve(weight, make_inputs(draw(4, 5)), 2)


@on_a_gram
def test_a_vector_is_refused(case: Case) -> None:
    weight = draw(6)

    with pytest.raises(ValueError, match=r"\[out, in, \.\.\.\], got \(6,\)"):
        case.solve(weight, make_inputs(draw(1, 6)), 2)


@on_a_gram
def test_a_convolution_is_solved_as_the_matrix_of_its_flattened_kernels(case: Case) -> None:
    weight = draw(4, 2, 3, 1)
    inputs = make_inputs(weight)
    if not case.argument:
        pytest.skip("its mask is drawn for a shape")

    found, flat = case.solve(weight, inputs, 3), case.solve(weight.flatten(1), inputs, 3)

    assert torch.equal(found.weight.flatten(1), flat.weight)


@on_a_gram
def test_dead_inputs_go_first_and_the_rest_is_untouched(case: Case) -> None:
    weight = draw(4, 6) * torch.tensor([100.0, 100.0, 1.0, 1.0, 1.0, 1.0])
    if not case.argument:
        pytest.skip("its mask is given")

    found = case.solve(weight, make_inputs(weight, dead=2), case.units(weight) * 4 // 6)

    assert not found.mask[:, :2].any()
    assert torch.equal(found.weight[:, 2:], weight[:, 2:])
    assert found.loss_increase == 0.0


@on_a_gram
@pytest.mark.parametrize(("samples", "dead"), [(1, 0), (3, 0), (3, 2), (40, 6)])
def test_a_singular_gram_matrix_does_no_harm(case: Case, samples: int, dead: int) -> None:
    weight = draw(4, 6)
    inputs = make_inputs(weight, samples=samples, dead=dead)

    for kept in range(case.least, case.units(weight) + 1):
        found = case.solve(weight, inputs, kept)
        assert int(found.mask.sum()) == kept * case.unit(weight.shape)
        assert found.weight.isfinite().all()
        assert found.weight.abs().max() < 100


@on_a_gram
def test_the_loss_is_the_error_of_the_outputs(case: Case) -> None:
    weight = draw(4, 6)
    inputs = make_inputs(weight)

    found = case.solve(weight, inputs, 3)

    change = found.weight - weight
    error = sum(float(row @ inputs.input_gram @ row) for row in change)
    assert found.loss_increase == pytest.approx(error, rel=1e-12)


@every_solver
def test_the_same_call_gives_the_same_bits(case: Case) -> None:
    weight = draw(4, 6)

    first, second = (case.solve(weight, make_inputs(weight), 3) for _ in range(2))

    assert torch.equal(first.weight, second.weight)
    assert first.loss_increase == second.loss_increase
