import math

import pytest
import torch
from torch import Tensor

from gossamer.penalties import group_lasso, group_lasso_step, l1, l1_step


def test_the_penalty_weighs_norms_by_the_root_of_the_size() -> None:
    weight = torch.tensor([3.0, 0.0, 5.0, 0.0, 0.0, 4.0], requires_grad=True)
    groups = torch.tensor([7, 7, -2, 7, -2, 7])

    value = group_lasso(weight, groups)
    value.backward()

    # Group 7 has 4 entries and norm 5, group -2 two entries and norm 5.
    assert value.item() == pytest.approx(2 * 5 + math.sqrt(2) * 5, rel=1e-7)
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, torch.tensor([1.2, 0.0, math.sqrt(2), 0.0, 0.0, 1.6]))


def test_the_step_shortens_groups_and_empties_short_ones() -> None:
    weight = torch.tensor([[3.0, 4.0, 0.0, 0.0], [0.5, -0.5, 0.5, -0.5]])
    groups = torch.tensor([0, 1])[:, None].expand(2, 4)

    stepped = group_lasso_step(weight, groups, threshold=0.5)

    # Both groups lose 0.5 * sqrt(4) = 1 of their norms 5 and 1.
    torch.testing.assert_close(stepped, torch.tensor([[2.4, 3.2, 0.0, 0.0], [0.0] * 4]), rtol=1e-7, atol=0)
    assert stepped[1].tolist() == [0.0] * 4


def test_a_threshold_of_zero_changes_nothing() -> None:
    weight = torch.tensor([1.0, -3.0, 0.0, 0.0])

    assert torch.equal(group_lasso_step(weight, torch.tensor([0, 0, 1, 1]), threshold=0.0), weight)


@pytest.mark.parametrize("offset", [0, -5, 10**12])
def test_the_numbers_of_the_groups_do_not_matter(offset: int) -> None:
    weight = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    groups = torch.randint(4, (6, 5), generator=torch.Generator().manual_seed(1))

    torch.testing.assert_close(group_lasso(weight, groups * 1000 + offset), group_lasso(weight, groups))
    torch.testing.assert_close(
        group_lasso_step(weight, groups * 1000 + offset, threshold=0.4), group_lasso_step(weight, groups, threshold=0.4)
    )


def objective(x: Tensor, weight: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """What the step minimises, group by group in a loop."""
    total = (x - weight).square().sum() / 2
    for number in groups.unique():
        total = total + threshold * math.sqrt(int((groups == number).sum())) * x[groups == number].norm()
    return total


@pytest.mark.parametrize("seed", range(3))
def test_the_step_solves_its_minimisation(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(30, dtype=torch.float64, generator=generator)
    groups = torch.randint(8, (30,), generator=generator)
    threshold = 0.8
    stepped = group_lasso_step(weight, groups, threshold=threshold)

    emptied = 0
    for number in groups.unique():
        x, w = stepped[groups == number], weight[groups == number]
        reach = threshold * math.sqrt(w.numel())
        # Optimality: 0 lies in x - w + reach * (subgradient of the norm), a unit vector or the unit ball.
        if x.norm() > 0:
            torch.testing.assert_close(w - x, reach * x / x.norm(), rtol=0, atol=1e-14)
        else:
            emptied += 1
            assert w.norm() <= reach
    assert 0 < emptied < groups.unique().numel()


def test_no_point_near_the_result_of_the_step_does_better() -> None:
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(30, dtype=torch.float64, generator=generator)
    groups = torch.randint(8, (30,), generator=generator)
    stepped = group_lasso_step(weight, groups, threshold=0.45)
    least = objective(stepped, weight, groups, 0.45)

    for size in (1.0, 1e-2, 1e-4):
        for _ in range(20):
            other = stepped + size * torch.randn(30, dtype=torch.float64, generator=generator)
            assert objective(other, weight, groups, 0.45) > least


def test_groups_of_one_entry_make_the_lasso() -> None:
    weight = torch.randn(20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    groups = torch.arange(20)

    torch.testing.assert_close(group_lasso(weight, groups), l1(weight), rtol=1e-15, atol=0)
    torch.testing.assert_close(
        group_lasso_step(weight, groups, threshold=0.5), l1_step(weight, threshold=0.5), rtol=1e-14, atol=1e-16
    )
