import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer import budgets, counts
from gossamer.budgets import Budget, er, erk, global_, uniform, uniform_plus, within_bytes, within_flops

LENET = {"fc1": (300, 784), "fc2": (100, 300), "fc3": (10, 100)}
SIZES = {name: math.prod(shape) for name, shape in LENET.items()}
FLOPS = {"fc1": 2.0, "fc2": 20.0, "fc3": 7.0}


def flops_of(kept: dict[str, int]) -> float:
    return sum(kept[name] * FLOPS[name] for name in kept)


def bytes_of(kept: dict[str, int]) -> int:
    return sum(min(8 * kept[name], 4 * SIZES[name]) for name in kept)


def one_more(kept: dict[str, int], split: Budget) -> dict[str, int]:
    """What the split gives for the next total that differs from these counts."""
    entries = sum(SIZES.values())
    totals = range(sum(kept.values()) - 3, entries + 1)
    found = [split(LENET, sparsity=counts.sparsity_of(total, entries)) for total in totals[:10]]
    return next(parts for parts in found[found.index(kept) :] if parts != kept)


@pytest.mark.parametrize("split", [uniform, er, erk], ids=lambda split: split.__name__)
@pytest.mark.parametrize("allowed", [250_000, 500_000, 900_000.5])
def test_one_step_of_sparsity_less_would_not_fit(split: Budget, allowed: float) -> None:
    by_flops = within_flops(LENET, budget_flops=allowed, flops_per_weight=FLOPS, split=split)
    by_bytes = within_bytes(LENET, budget_bytes=allowed, split=split)

    assert flops_of(by_flops) <= allowed < flops_of(one_more(by_flops, split))
    assert bytes_of(by_bytes) <= allowed < bytes_of(one_more(by_bytes, split))


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    share=st.floats(0.2, 1.1),
    flops=st.lists(st.integers(1, 9), min_size=4, max_size=4),
)
def test_no_denser_total_fits(sizes: list[int], share: float, flops: list[int]) -> None:
    shapes = {str(i): (size, 2) for i, size in enumerate(sizes)}
    each = dict(zip(shapes, map(float, flops), strict=False))
    allowed = share * sum(2 * size * each[str(i)] for i, size in enumerate(sizes))

    def cost(total: int) -> float:
        kept = uniform(shapes, sparsity=counts.sparsity_of(total, 2 * sum(sizes)))
        return sum(kept[name] * each[name] for name in kept)

    fitting = [total for total in range(1, 2 * sum(sizes) + 1) if cost(total) <= allowed]
    if not fitting:
        with pytest.raises(ValueError, match=rf"the sparsest split costs {cost(1):.6g}, allowed are .*; allow more"):
            within_flops(shapes, budget_flops=allowed, flops_per_weight=each, split=uniform)
        return

    found = within_flops(shapes, budget_flops=allowed, flops_per_weight=each, split=uniform)

    assert found == uniform(shapes, sparsity=counts.sparsity_of(fitting[-1], 2 * sum(sizes)))


def test_what_fits_densely_stays_dense_and_costs_no_indices() -> None:
    dense = {name: math.prod(shape) for name, shape in LENET.items()}

    assert within_bytes(LENET, budget_bytes=4 * 266_200, split=erk) == dense
    assert within_flops(LENET, budget_flops=flops_of(dense), flops_per_weight=FLOPS, split=erk) == dense
    # one byte less: the largest tensor leaves its dense form only below half of its entries
    assert within_bytes(LENET, budget_bytes=4 * 266_200 - 1, split=uniform)["fc1"] == 117_599


def test_bytes_of_values_and_indices_by_hand() -> None:
    shapes = {"a": (10, 10), "b": (10, 10)}

    # values of 2 bytes, indices of 1: 3 each, 20 fit into 60
    found = within_bytes(shapes, budget_bytes=60, value_bytes=2, index_bytes=1, split=er)

    assert found == {"a": 10, "b": 10}


def test_a_split_that_refuses_high_sparsities_is_asked_for_lower_ones() -> None:
    least = uniform_plus(LENET, sparsity=counts.sparsity_of(235_200 + 1 + 200, 266_200))

    found = within_flops(LENET, budget_flops=flops_of(least), flops_per_weight=FLOPS, split=uniform_plus)

    assert found == least
    with pytest.raises(ValueError, match="the sparsest split costs 471820, allowed are 1000"):
        within_flops(LENET, budget_flops=1000, flops_per_weight=FLOPS, split=uniform_plus)


def test_scores_can_be_bound_beforehand() -> None:
    scores = {"a": torch.tensor([[4.0, 3.0]]), "b": torch.tensor([[2.0, 1.0]])}
    split = partial(global_, scores=scores)

    found = within_flops(
        dict.fromkeys(scores, (1, 2)), budget_flops=12, flops_per_weight={"a": 1.0, "b": 10.0}, split=split
    )

    assert found == {"a": 2, "b": 1}


def test_no_tensors_cost_nothing() -> None:
    assert within_bytes({}, budget_bytes=1, split=budgets.erk) == {}


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_numbers_that_are_not_positive_are_refused_by_name(bad: float) -> None:
    with pytest.raises(ValueError, match="budget_flops must be a positive number, got"):
        within_flops(LENET, budget_flops=bad, flops_per_weight=FLOPS, split=erk)
    with pytest.raises(ValueError, match="flops_per_weight of fc2 must be a positive number"):
        within_flops(LENET, budget_flops=1, flops_per_weight=FLOPS | {"fc2": bad}, split=erk)
    for name in ("budget_bytes", "value_bytes", "index_bytes"):
        with pytest.raises(ValueError, match=f"{name} must be a positive number"):
            within_bytes(LENET, split=erk, **({"budget_bytes": 1000.0} | {name: bad}))


def test_a_tensor_without_a_cost_is_refused() -> None:
    with pytest.raises(ValueError, match="no flops_per_weight for fc3"):
        within_flops(LENET, budget_flops=1, flops_per_weight={"fc1": 1.0, "fc2": 1.0}, split=erk)
