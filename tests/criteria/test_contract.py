import inspect
import math
import re
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from gossamer import criteria
from gossamer.masks import keep_largest

from .cases import CASES, UNIT_CASES, WEIGHT_CASES, Case

SHAPES = [(0,), (0, 3), (1,), (1, 1), (1, 3), (7,), (4, 5), (2, 3, 3, 3)]
SHAPED = [
    pytest.param(case, shape, id=f"{case.name}-{shape}")
    for case in CASES
    for shape in SHAPES
    if len(shape) >= (2 if case in UNIT_CASES else case.min_dim)
]
every_criterion = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_reading_criterion = pytest.mark.parametrize(
    "case", [case for case in CASES if case.reads_values], ids=lambda case: case.name
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def views(tensor: Tensor) -> Iterator[Tensor]:
    """Yield tensors that do not lie contiguously in memory."""
    every_other = tensor.repeat_interleave(2, dim=0)[::2]
    order = tuple(range(tensor.dim()))[::-1]
    backwards = tensor.permute(order).contiguous().permute(order)
    yield from (every_other, backwards, tensor[:1].expand_as(tensor))


def test_the_tables_hold_every_public_criterion_once() -> None:
    assert sorted(case.name for case in CASES) == sorted(set(criteria.__all__) - {"elementwise"})


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("case", "shape"), SHAPED)
def test_scores_are_finite_float32_for_each_weight_or_unit(
    case: Case, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    scores = case.of(noise(*shape).to(dtype))

    assert scores.shape == (shape[:1] if case in UNIT_CASES else shape)
    assert scores.dtype == (dtype if case.keeps_float64 and dtype == torch.float64 else torch.float32)
    assert scores.isfinite().all()


@every_criterion
def test_inputs_are_left_as_they_are_and_share_no_memory_with_the_scores(case: Case) -> None:
    inputs = [tensor.clone().requires_grad_() for tensor in case.inputs(noise(4, 5))]
    before = [tensor.detach().clone() for tensor in inputs]

    scores = case.score(*inputs)
    scores.fill_(7.0)

    assert all(torch.equal(tensor, old) for tensor, old in zip(inputs, before, strict=True))
    assert not scores.requires_grad


@every_criterion
@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 2, 2)], ids=str)
def test_strides_do_not_change_scores(case: Case, shape: tuple[int, ...]) -> None:
    for strided in zip(*(views(tensor) for tensor in case.inputs(noise(*shape))), strict=True):
        dense = [view.clone(memory_format=torch.contiguous_format) for view in strided]

        assert torch.equal(case.score(*strided), case.score(*dense))


@every_criterion
def test_channels_last_does_not_change_scores(case: Case) -> None:
    weight = noise(3, 4, 2, 2)
    inputs = case.inputs(weight)
    permuted = [
        tensor.to(memory_format=torch.channels_last) if tensor.shape == weight.shape else tensor for tensor in inputs
    ]

    assert torch.equal(case.score(*permuted), case.score(*inputs))


@pytest.mark.parametrize("case", [case for case in WEIGHT_CASES if case.by_entry], ids=lambda case: case.name)
def test_active_values_score_alike_in_a_vector_and_in_the_dense_tensor(case: Case) -> None:
    weight = noise(5, 4)
    mask = weight > 0

    assert torch.equal(case.of(weight)[mask], case.of(weight[mask]))


@pytest.mark.parametrize("case", [case for case in UNIT_CASES if case.by_entry], ids=lambda case: case.name)
def test_a_unit_judged_by_itself_scores_the_same_without_the_others(case: Case) -> None:
    weight = noise(5, 4)

    assert torch.equal(case.of(weight)[1:3], case.of(weight[1:3]))


@pytest.mark.parametrize("case", UNIT_CASES, ids=lambda case: case.name)
def test_the_order_of_the_units_is_the_order_of_their_scores(case: Case) -> None:
    weight, order = noise(6, 4), torch.tensor([3, 0, 5, 1, 4, 2])

    torch.testing.assert_close(case.of(weight[order]), case.of(weight)[order], rtol=1e-6, atol=1e-7)


@every_criterion
@pytest.mark.parametrize("count", [0, 1, 3])
def test_equal_weights_are_kept_in_exact_number(case: Case, count: int) -> None:
    scores = case.of(torch.full((3, 4), -0.5))

    assert int(keep_largest(scores, count).sum()) == count


@every_criterion
@pytest.mark.parametrize("factor", [0.5, 2.0, 1024.0])
def test_scaling_a_weight_does_not_change_what_stays(case: Case, factor: float) -> None:
    weight = noise(20, 10)
    scores, scaled = case.of(weight), case.of(weight * factor)

    assert torch.equal(keep_largest(scaled, scores.numel() // 4), keep_largest(scores, scores.numel() // 4))


@every_criterion
def test_the_same_weight_scores_the_same_twice(case: Case) -> None:
    weight = noise(10, 5)

    assert torch.equal(case.of(weight), case.of(weight))


@every_criterion
@pytest.mark.parametrize("scale", [1e-4, 1.0, 200.0])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_computed_in_single_precision(case: Case, dtype: torch.dtype, scale: float) -> None:
    inputs = [tensor.to(dtype) for tensor in case.inputs(noise(8, 3) * scale)]

    scores = case.score(*inputs)

    assert torch.equal(scores, case.score(*(tensor.float() for tensor in inputs)))
    assert scores.isfinite().all()


@every_reading_criterion
def test_a_nan_in_any_input_stays_a_nan(case: Case) -> None:
    inputs = case.inputs(noise(3, 4))

    for place in range(len(inputs)):
        poisoned = [tensor.clone(memory_format=torch.contiguous_format) for tensor in inputs]
        poisoned[place].view(-1)[0] = math.nan

        assert case.score(*poisoned).isnan().flatten()[0]


def test_no_criterion_but_random_is_blind_to_values() -> None:
    blind = {case.name for case in CASES if torch.equal(case.of(noise(3, 4)), case.of(noise(3, 4, seed=1)))}

    assert blind == {case.name for case in CASES if not case.reads_values} == {"random"}


@pytest.mark.parametrize(
    "case", [case for case in CASES if len(case.inputs(noise(4, 5))) > 1], ids=lambda case: case.name
)
# Another number of entries, the same number, one that broadcasts, none.
@pytest.mark.parametrize("shape", [(2, 7, 3), (20,), (4, 1), (0,)], ids=str)
def test_shapes_that_do_not_fit_are_named(case: Case, shape: tuple[int, ...]) -> None:
    first, second = inspect.signature(case.score).parameters

    with pytest.raises(ValueError, match=re.escape(f"{first} has shape (4, 5), {second} {shape};")):
        case.score(noise(4, 5), torch.zeros(shape))


@pytest.mark.parametrize("case", UNIT_CASES, ids=lambda case: case.name)
def test_units_need_inputs_of_their_shape(case: Case) -> None:
    inputs = case.inputs(noise(4, 5))
    name = next(iter(inspect.signature(case.score).parameters))
    shape = (4, 5, 2) if inputs[0].dim() == 1 else (4,)

    with pytest.raises(ValueError, match=re.escape(f"{name} has shape {shape}")):
        case.score(*(torch.zeros(shape) for _ in inputs))
