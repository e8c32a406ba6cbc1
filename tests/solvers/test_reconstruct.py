import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gossamer.solvers import reconstruct
from gossamer.solvers.linear_algebra import solve_kept

from .layers import best, error, layer


def test_two_inputs_by_hand() -> None:
    # w_0 + w_1 / 2 = 1 + 1
    found = reconstruct(
        torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.5], [0.5, 1.0]]), torch.tensor([[True, False]])
    )

    assert found.weight.tolist() == [[2.0, 0.0]]
    assert found.loss_increase == pytest.approx(4 * 0.75)


def random_mask(out: int, size: int, seed: int) -> Tensor:
    return torch.rand(out, size, generator=torch.Generator().manual_seed(seed)) < 0.5


@pytest.mark.parametrize("seed", range(5))
def test_it_is_least_squares(seed: int) -> None:
    weight, gram = layer(6, 5, seed=seed)
    mask = random_mask(6, 5, seed)

    found = reconstruct(weight, gram, mask)

    torch.testing.assert_close(found.weight, best(weight, gram, mask), rtol=1e-8, atol=1e-9)
    assert torch.equal(found.mask, mask)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    samples=st.sampled_from([1, 2, 4, 30]),
    dampening=st.sampled_from([0.0, 0.01, 10.0]),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
)
def test_it_never_raises_the_output_error_of_a_row(
    seed: int, samples: int, dampening: float, dtype: torch.dtype
) -> None:
    weight, gram = layer(3, 5, seed=seed, samples=samples)
    weight, mask = weight.to(dtype), random_mask(3, 5, seed)

    found = reconstruct(weight, gram, mask, dampening=dampening)

    for row in range(3):
        part = slice(row, row + 1)
        before = error(weight[part], weight[part] * mask[part], gram)
        assert error(weight[part], found.weight[part], gram) <= before * (1 + 1e-12) + 1e-13 * float(gram.trace())


def test_where_rounding_to_half_precision_costs_more_than_the_move_gains_the_row_stays() -> None:
    # The move is (1.2, -0.8); in steps of 2 that is (2, 0), while the two inputs are nearly one.
    gram = torch.tensor([[1.0, 0.999, 0.4008], [0.999, 1.0, 0.3988], [0.4008, 0.3988, 1.0]])
    weight, mask = torch.tensor([[256.0, 256.0, 1.0]]), torch.tensor([[True, True, False]])

    exact, rounded = (reconstruct(weight.to(dtype), gram, mask) for dtype in (torch.float64, torch.bfloat16))

    assert exact.weight.tolist() == [pytest.approx([257.2, 255.2, 0.0], rel=1e-4)]
    assert rounded.weight.tolist() == [[256.0, 256.0, 0.0]]
    assert rounded.loss_increase == pytest.approx(1.0)


def test_few_samples_are_met_exactly_with_the_smallest_move() -> None:
    data = torch.tensor([[1.0, 1.0, 1.0]], dtype=torch.float64)
    weight = torch.tensor([[1.0, 2.0, 4.0]], dtype=torch.float64)

    found = reconstruct(weight, data.t() @ data, torch.tensor([[True, True, False]]))

    assert found.weight.tolist() == [pytest.approx([3.0, 4.0, 0.0])]
    assert found.loss_increase == pytest.approx(0.0, abs=1e-24)


def test_dampening_holds_weights_where_they_are() -> None:
    weight, gram = layer(4, 5)
    mask = random_mask(4, 5, 1)

    moves = [
        float((reconstruct(weight, gram, mask, dampening=dampening).weight - weight * mask).norm())
        for dampening in (0.0, 0.1, 1.0, 1e9)
    ]

    assert moves == sorted(moves, reverse=True)
    assert moves[-1] == pytest.approx(0.0, abs=1e-8)


def test_inputs_of_very_different_scale_are_solved_alike() -> None:
    weight, gram = layer(4, 5)
    scale = torch.tensor([1.0, 1e-5, 1e4, 1.0, 1e-3], dtype=torch.float64)
    mask = random_mask(4, 5, 2)

    found = reconstruct(weight / scale, gram * torch.outer(scale, scale), mask)

    torch.testing.assert_close(found.weight * scale, best(weight, gram, mask), rtol=1e-7, atol=1e-8)


def test_regular_and_singular_problems_of_one_batch_are_told_apart() -> None:
    regular = torch.tensor([[2.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    singular = torch.ones(2, 2, dtype=torch.float64)
    pull = torch.ones(2, 2, 1, dtype=torch.float64)

    solved = solve_kept(torch.stack([regular, singular]), torch.ones(2, 2, dtype=torch.bool), pull)

    torch.testing.assert_close(solved[:, :, 0], torch.tensor([[0.0, 1.0], [0.5, 0.5]], dtype=torch.float64))


def test_a_mask_of_another_shape_or_type_is_refused() -> None:
    weight, gram = layer(2, 3)

    with pytest.raises(ValueError, match=r"bool of shape \(2, 3\), got torch.bool \(3, 2\)"):
        reconstruct(weight, gram, torch.ones(3, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"got torch.float32 \(2, 3\)"):
        reconstruct(weight, gram, torch.ones(2, 3))


def test_a_small_input_takes_over_for_its_copy_beside_a_large_one() -> None:
    # x_1, x_2 and x_3 are copies a million times smaller than x_0.
    gram = torch.diag(torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64))
    gram[1:, 1:] = 1e-12

    found = reconstruct(torch.ones(1, 4, dtype=torch.float64), gram, torch.tensor([[True, True, True, False]]))

    assert found.weight.tolist() == [pytest.approx([1.0, 1.5, 1.5, 0.0])]


def test_the_mask_of_the_solution_is_a_copy() -> None:
    weight, gram = layer(2, 3)
    mask = random_mask(2, 3, 0)
    before = mask.clone()

    reconstruct(weight, gram, mask).mask.logical_not_()

    assert torch.equal(mask, before)
