import pytest
import torch
from torch import Tensor

from gossamer import masks
from gossamer.solvers import obs, reconstruct, sparsegpt, sparsegpt_nm, sparsegpt_update

from .layers import error, layer, with_dampening


def column_by_column(weight: Tensor, gram: Tensor, mask: Tensor) -> Tensor:
    """Fit all columns behind each column anew, with those before it as they have become."""
    solved = weight.clone()
    for column in range(weight.shape[1]):
        solved[~mask[:, column], column] = 0.0
        behind, done = slice(column + 1, None), slice(None, column + 1)
        pull = gram[behind, done] @ (weight - solved)[:, done].t()
        solved[:, behind] = weight[:, behind] + torch.linalg.solve(gram[behind, behind], pull).t()
    return solved


def random_mask(out: int, size: int, seed: int = 0) -> Tensor:
    return torch.rand(out, size, generator=torch.Generator().manual_seed(seed)) < 0.5


def test_two_weights_by_hand() -> None:
    # G^-1 = [[4, -2], [-2, 4]] / 3, so w_0 scores 3/4 and w_1 scores 4; without w_0, w_1 gains 1/2.
    found = sparsegpt(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.5], [0.5, 1.0]]), num_active=1, dampening=0.0)

    assert found.weight.tolist() == [pytest.approx([0.0, 2.5])]
    assert found.loss_increase == pytest.approx(0.75)


@pytest.mark.parametrize("dampening", [0.0, 0.1])
@pytest.mark.parametrize("block_columns", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("seed", range(3))
def test_any_blocks_give_the_least_squares_of_the_columns_behind_for_a_mask(
    block_columns: int, dampening: float, seed: int
) -> None:
    weight, gram = layer(4, 7, seed=seed)
    mask = random_mask(4, 7, seed)

    found = sparsegpt_update(weight, gram, mask, block_columns=block_columns, dampening=dampening)

    expected = column_by_column(weight, with_dampening(gram, dampening), mask)
    torch.testing.assert_close(found.weight, expected, rtol=1e-8, atol=1e-9)
    assert torch.equal(found.mask, mask)


@pytest.mark.parametrize("num_active", [0, 9, 20, 28])
def test_blocks_of_one_column_are_the_plain_solution_column_by_column(num_active: int) -> None:
    weight, gram = layer(4, 7)
    solved, mask = weight.clone(), torch.ones(4, 7, dtype=torch.bool)
    share = [num_active // 7 + (column < num_active % 7) for column in range(7)]

    # Each column in turn: the inverse of what is left, the scores, the move of all behind.
    for column in range(7):
        inv = torch.linalg.inv(gram[column:, column:])
        mask[:, column] = masks.keep_largest(solved[:, column].square() / inv[0, 0], share[column])
        moved = solved[:, column, None] / inv[0, 0] * inv[0]
        solved[:, column:] -= torch.where(mask[:, column, None], 0.0, moved)
    found = sparsegpt(weight, gram, num_active=num_active, block_columns=1, dampening=0.0)

    assert torch.equal(found.mask, mask)
    torch.testing.assert_close(found.weight, solved * mask, rtol=1e-8, atol=1e-9)


def test_a_row_that_loses_its_first_inputs_only_is_exact_obs() -> None:
    weight, gram = layer(3, 6)
    mask = (torch.arange(6) >= 2).expand(3, 6)

    found = sparsegpt_update(weight, gram, mask, dampening=0.0)

    torch.testing.assert_close(found.weight, reconstruct(weight, gram, mask).weight, rtol=1e-8, atol=1e-9)


def test_the_first_removal_of_a_row_in_the_first_column_costs_what_obs_says() -> None:
    weight, gram = layer(1, 5)
    weight[0, 0] = 1e-3

    found = sparsegpt(weight, gram, num_active=4, dampening=0.0)

    oracle = obs(weight[0], 2 * gram, num_active=4)
    assert found.mask.tolist() == [oracle.mask.tolist()]
    assert found.loss_increase == pytest.approx(oracle.loss_increase, rel=1e-8)


@pytest.mark.parametrize("block_columns", [1, 3, 4, 16])
@pytest.mark.parametrize("num_active", [0, 1, 17, 34, 50])
def test_blocks_keep_their_share_and_the_counts_add_up(block_columns: int, num_active: int) -> None:
    weight, gram = layer(5, 10)

    found = sparsegpt(weight, gram, num_active=num_active, block_columns=block_columns)

    parts = [int(part.sum()) for part in found.mask.split(block_columns, 1)]
    widths = [part.shape[1] for part in found.mask.split(block_columns, 1)]
    assert sum(parts) == num_active
    assert all(abs(part - num_active * width / 10) < 1 for part, width in zip(parts, widths, strict=True))


def test_blocks_keep_in_proportion_to_their_live_inputs() -> None:
    weight, gram = layer(5, 8)
    gram[:3], gram[:, :3] = 0.0, 0.0

    by_count = {
        count: [int(part.sum()) for part in sparsegpt(weight, gram, num_active=count, block_columns=4).mask.split(4, 1)]
        for count in (10, 25, 32, 40)
    }

    assert by_count == {10: [2, 8], 25: [5, 20], 32: [12, 20], 40: [20, 20]}


@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (3, 4), (1, 8), (4, 4)])
def test_n_of_each_m_stay_and_blocks_do_not_matter(n: int, m: int) -> None:
    weight, gram = layer(5, 8)

    found = [sparsegpt_nm(weight, gram, n=n, m=m, block_columns=width) for width in (1, m, 5, 8, 100)]

    assert (found[0].mask.unflatten(1, (-1, m)).sum(2) == n).all()
    expected = column_by_column(weight, with_dampening(gram, 0.01), found[0].mask)
    for other in found:
        assert torch.equal(other.mask, found[0].mask)
        torch.testing.assert_close(other.weight, expected, rtol=1e-8, atol=1e-9)


def test_a_group_is_chosen_when_the_sweep_reaches_it() -> None:
    # Without w_0 its twin w_2 holds 5 and stays; before, it was less than w_3.
    gram = torch.eye(4, dtype=torch.float64)
    gram[0, 2] = gram[2, 0] = 0.999
    weight = torch.tensor([[4.0, 9.0, 1.0, 2.0]], dtype=torch.float64)

    found = sparsegpt_nm(weight, gram, n=1, m=2, dampening=0.0)

    assert found.mask.tolist() == [[False, True, True, False]]
    assert float(found.weight[0, 2]) == pytest.approx(1 + 4 * 0.999)


def test_of_equal_scores_the_first_are_kept() -> None:
    weight = torch.ones(2, 4)

    assert sparsegpt_nm(weight, torch.eye(4), n=1, m=2).mask.tolist() == [[True, False, True, False]] * 2
    assert sparsegpt(weight, torch.eye(4), num_active=3).mask.tolist() == [[True] * 3 + [False], [False] * 4]


def test_the_move_lowers_the_output_error_in_the_mean() -> None:
    # Statistical, with fixed seeds: the order of the columns binds it, so that it need not hold draw by draw.
    moved = alone = exact = 0.0
    for seed in range(30):
        weight, gram = layer(4, 8, seed=seed)
        found = sparsegpt(weight, gram, num_active=16)
        moved += found.loss_increase
        alone += error(weight, weight * found.mask, gram)
        exact += reconstruct(weight, gram, found.mask).loss_increase

    assert exact < moved < 0.7 * alone


def test_settings_that_do_not_fit_are_refused() -> None:
    weight, gram = layer(2, 6)

    with pytest.raises(ValueError, match="block_columns must be 1 or more, got 0"):
        sparsegpt(weight, gram, num_active=3, block_columns=0)
    with pytest.raises(ValueError, match="6 inputs do not part into groups of 4"):
        sparsegpt_nm(weight, gram, n=2, m=4)
    with pytest.raises(ValueError, match="mask must be bool"):
        sparsegpt_update(weight, gram, torch.ones(6, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"input_gram must be positive definite.* 0\.01"):
        sparsegpt(weight, layer(2, 6, samples=2)[1], num_active=3, dampening=0.0)
