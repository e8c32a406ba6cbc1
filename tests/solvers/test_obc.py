from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.solvers import l_obs, obc, obc_nm, obs, reconstruct
from gossamer.solvers.obc import Trace, _traces

from .layers import best, error, layer, with_dampening


@pytest.mark.parametrize("seed", range(3))
def test_the_downdated_inverse_is_a_fresh_inverse_after_each_removal(seed: int) -> None:
    weight, gram = layer(3, 6, seed=seed)
    trace = Trace(weight.clone(), torch.linalg.inv(gram).repeat(3, 1, 1), torch.zeros(6, dtype=torch.bool))

    for _ in range(5):
        trace.remove()
        for row in range(3):
            left = (~trace.gone[row]).nonzero().flatten()
            fresh = torch.zeros(6, 6, dtype=torch.float64)
            fresh[left[:, None], left] = torch.linalg.inv(gram[left][:, left])
            torch.testing.assert_close(trace.inverses[row], fresh, rtol=1e-8, atol=1e-9)
        torch.testing.assert_close(trace.rows, best(weight, gram, ~trace.gone), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("num_active", range(7))
@pytest.mark.parametrize("dampening", [0.0, 0.1])
def test_one_row_is_obs_on_the_gram_matrix(num_active: int, dampening: float) -> None:
    weight, gram = layer(1, 6)
    # The output error of a row is the quadratic whose Hessian is twice the Gram matrix.
    oracle = obs(weight[0], 2 * gram, num_active=num_active, dampening=dampening)

    found = obc(weight, gram, num_active=num_active, dampening=dampening)

    assert torch.equal(found.mask[0], oracle.mask)
    torch.testing.assert_close(found.weight[0], oracle.weight, rtol=1e-7, atol=1e-9)
    assert found.loss_increase == pytest.approx(oracle.loss_increase, rel=1e-7, abs=1e-12)


def test_each_row_is_a_beginning_of_its_own_trace_and_their_sum_the_cheapest_of_all_splits() -> None:
    weight, gram = layer(3, 4, seed=2)
    alone = [[obs(row, 2 * gram, num_active=kept).loss_increase for kept in range(5)] for row in weight]

    for num_active in range(13):
        found = obc(weight, gram, num_active=num_active, dampening=0.0)
        kept = found.mask.sum(1).tolist()
        for row in range(3):
            assert torch.equal(found.mask[row], obs(weight[row], 2 * gram, num_active=kept[row]).mask)
        waiting = sorted(cost for losses in alone for cost in steps(losses))
        threshold = waiting[12 - num_active - 1] if num_active < 12 else -1.0
        assert kept == [4 - sum(cost <= threshold for cost in steps(losses)) for losses in alone]


def steps(losses: list[float]) -> list[float]:
    """Return what each removal adds, no less than those before it."""
    added = [losses[kept - 1] - losses[kept] for kept in (4, 3, 2, 1)]
    return [max(added[: i + 1]) for i in range(4)]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), num_active=st.integers(0, 6))
def test_the_best_of_all_masks_bounds_every_solver_from_below(seed: int, num_active: int) -> None:
    weight, gram = layer(2, 3, seed=seed, samples=20)
    masks = torch.zeros(0, 6, dtype=torch.bool)
    for places in combinations(range(6), num_active):
        masks = torch.cat([masks, torch.isin(torch.arange(6), torch.tensor(places, dtype=torch.int64))[None]])
    bound = min(error(weight, best(weight, gram, mask.view(2, 3)), gram) for mask in masks)

    greedy = obc(weight, gram, num_active=num_active, dampening=0.0)
    at_once = l_obs(weight, gram, num_active=num_active, dampening=0.0)

    assert greedy.loss_increase >= bound * (1 - 1e-9) - 1e-12
    assert at_once.loss_increase >= bound * (1 - 1e-9) - 1e-12
    if num_active in (5, 6):
        assert greedy.loss_increase == pytest.approx(bound, rel=1e-7, abs=1e-12)


def test_greedy_removals_miss_the_best_mask_by_a_quarter_at_most_in_the_mean() -> None:
    # Statistical, with fixed seeds.
    found = bound = 0.0
    for seed in range(40):
        weight, gram = layer(1, 7, seed=seed)
        masks = [torch.isin(torch.arange(7), torch.tensor(places))[None] for places in combinations(range(7), 3)]
        bound += min(error(weight, best(weight, gram, mask), gram) for mask in masks)
        found += obc(weight, gram, num_active=3, dampening=0.0).loss_increase

    assert bound < found < 1.25 * bound


def test_what_stays_is_least_squares_on_the_damped_gram_matrix() -> None:
    weight, gram = layer(5, 8)

    found = obc(weight, gram, num_active=17, dampening=0.05)

    expected = best(weight, with_dampening(gram, 0.05), found.mask)
    torch.testing.assert_close(found.weight, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("n", "m"), [(1, 2), (2, 4), (3, 4), (1, 8), (4, 4), (1, 1)])
def test_n_of_each_m_consecutive_inputs_stay(n: int, m: int) -> None:
    weight, gram = layer(5, 8)

    found = obc_nm(weight, gram, n=n, m=m)

    assert (found.mask.unflatten(1, (-1, m)).sum(2) == n).all()
    expected = reconstruct(weight, gram, found.mask, dampening=0.01)
    torch.testing.assert_close(found.weight, expected.weight, rtol=1e-12, atol=1e-12)


def test_n_of_m_follows_the_trace_and_passes_over_groups_that_are_full() -> None:
    weight, gram = layer(1, 6, seed=4)
    left = list(range(6))
    removed: list[int] = []

    for _ in range(3):
        open_places = [p for p in left if p // 2 not in {q // 2 for q in removed}]
        costs = {
            p: error(weight, best(weight, gram, torch.tensor([[q not in (*removed, p) for q in range(6)]])), gram)
            for p in open_places
        }
        removed.append(min(costs, key=lambda p: costs[p]))
        left.remove(removed[-1])
    found = obc_nm(weight, gram, n=1, m=2, dampening=0.0)

    assert sorted(removed) == (~found.mask[0]).nonzero().flatten().tolist()


def test_one_group_for_the_whole_row_is_exact_obs_of_that_count() -> None:
    weight, gram = layer(1, 6)

    found, free = obc_nm(weight, gram, n=2, m=6), obc(weight, gram, num_active=2)

    assert torch.equal(found.weight, free.weight)


def test_n_and_m_that_do_not_fit_are_refused() -> None:
    weight, gram = layer(2, 6)

    with pytest.raises(ValueError, match="6 inputs do not part into groups of 4"):
        obc_nm(weight, gram, n=2, m=4)
    with pytest.raises(ValueError, match=r"n must lie in \[1, 2\] for m = 2, got 3"):
        obc_nm(weight, gram, n=3, m=2)


def test_batches_of_rows_do_not_change_the_solution(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, gram = layer(7, 5)
    expected = obc(weight, gram, num_active=15)
    monkeypatch.setattr("gossamer.solvers.linear_algebra._BATCH_ENTRIES", 60)

    found = obc(weight, gram, num_active=15)

    assert torch.equal(found.mask, expected.mask)
    torch.testing.assert_close(found.weight, expected.weight, rtol=1e-13, atol=1e-13)


def test_a_singular_gram_matrix_without_dampening_is_refused_with_advice() -> None:
    weight, gram = layer(2, 6, samples=3)

    with pytest.raises(ValueError, match=r"input_gram must be positive definite.* dampening, such as"):
        obc(weight, gram, num_active=3, dampening=0.0)


def test_dead_inputs_are_counted_before_weights_of_value_zero() -> None:
    weight, gram = layer(2, 4)
    gram[1], gram[:, 1], weight[0, 2] = 0.0, 0.0, 0.0

    found = obc(weight, gram, num_active=6)

    assert found.mask.tolist() == [[True, False, True, True]] * 2


def test_a_cheap_removal_behind_a_dear_one_waits_for_it() -> None:
    # The first row nearly cancels: 0.0195 for the first removal, 0.0004 for the second. The others: 0.005, 0.006.
    gram = torch.tensor([[1.0, 0.99], [0.99, 1.0]])
    weight = torch.tensor([[1.0, -0.99], [5.0, 0.5], [0.55, 5.0]])

    found = obc(weight, gram, num_active=4, dampening=0.0)

    assert found.mask.tolist() == [[True, True], [True, False], [False, True]]


@pytest.mark.parametrize("seed", range(20))
def test_a_gram_matrix_that_is_positive_by_rounding_alone_is_refused(seed: int) -> None:
    weight, gram = layer(2, 6, samples=5, seed=seed)

    with pytest.raises(ValueError, match="positive definite"):
        obc(weight, gram, num_active=3, dampening=0.0)


def test_dead_inputs_go_first_however_large_their_weights_and_however_many_they_are() -> None:
    weight, gram = layer(2, 12, seed=4)
    dead = torch.tensor([1, 2, 5, 7, 11])
    gram[dead], gram[:, dead] = 0.0, 0.0
    weight[:, dead] = 100.0

    found = obc(weight, gram, num_active=14)

    assert not found.mask[:, dead].any()
    assert int(found.mask.sum()) == 14


def test_matrices_that_shrink_on_the_way_remove_as_one_that_does_not() -> None:
    weight, gram = layer(3, 20, seed=5)
    trace = Trace(weight.clone(), torch.linalg.inv(gram).repeat(3, 1, 1), torch.zeros(20, dtype=torch.bool))

    order, costs = _traces(weight, gram, 0.0, 19)

    for step in range(19):
        places, found = trace.remove()
        assert torch.equal(order[:, step], places)
        torch.testing.assert_close(costs[:, step], found, rtol=1e-7, atol=1e-12)
