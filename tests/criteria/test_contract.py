import pytest
import torch

from gossamer import criteria
from gossamer.masks import keep_largest

from .cases import CASES, Case

SHAPES = [(0,), (0, 3), (1,), (7,), (4, 5), (2, 3, 3, 3)]
every_criterion = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def test_the_table_holds_every_public_criterion() -> None:
    assert sorted(case.name for case in CASES) == sorted(criteria.__all__)


@every_criterion
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_scores_are_finite_float32_of_the_shape_of_the_weight(
    case: Case, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    scores = case.score(torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype))

    assert scores.shape == shape
    assert scores.dtype == torch.float32
    assert scores.isfinite().all()


@every_criterion
def test_the_weight_is_left_as_it_is_and_shares_no_memory_with_the_scores(case: Case) -> None:
    weight = torch.tensor([[1.0, -2.0], [0.0, 3.0]], requires_grad=True)
    before = weight.detach().clone()

    scores = case.score(weight)
    scores.fill_(7.0)

    assert torch.equal(weight, before)
    assert not scores.requires_grad


@every_criterion
def test_strides_do_not_change_scores(case: Case) -> None:
    weight = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))

    for view in (weight.t(), weight[::2], weight.t()[1:, ::2], weight[:1].expand(3, 4)):
        assert torch.equal(case.score(view), case.score(view.clone(memory_format=torch.contiguous_format)))


@every_criterion
def test_channels_last_does_not_change_scores(case: Case) -> None:
    weight = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(1))

    assert torch.equal(case.score(weight.to(memory_format=torch.channels_last)), case.score(weight))


@every_criterion
def test_active_values_score_alike_in_a_vector_and_in_the_dense_tensor(case: Case) -> None:
    if not case.by_entry:
        pytest.skip("a score that depends on other entries")
    weight = torch.randn(5, 4, generator=torch.Generator().manual_seed(2))
    mask = weight > 0

    assert torch.equal(case.score(weight)[mask], case.score(weight[mask]))


@every_criterion
@pytest.mark.parametrize("count", [0, 1, 5, 12])
def test_equal_weights_are_kept_in_exact_number(case: Case, count: int) -> None:
    scores = case.score(torch.full((3, 4), -0.5))

    assert int(keep_largest(scores, count).sum()) == count


@every_criterion
@pytest.mark.parametrize("factor", [0.5, 2.0, 1024.0])
def test_scaling_a_weight_does_not_change_which_entries_stay(case: Case, factor: float) -> None:
    weight = torch.randn(200, generator=torch.Generator().manual_seed(3))

    assert torch.equal(keep_largest(case.score(weight * factor), 50), keep_largest(case.score(weight), 50))


@every_criterion
def test_the_same_weight_scores_the_same_twice(case: Case) -> None:
    weight = torch.randn(50, generator=torch.Generator().manual_seed(4))

    assert torch.equal(case.score(weight), case.score(weight))
