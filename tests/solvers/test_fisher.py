import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gossamer import masks, solvers
from gossamer.solvers import (
    inverse_fisher,
    m_fac,
    m_fac_inverse,
    m_fac_scores,
    obs,
    woodfisher,
    woodfisher_scores,
    woodtaylor_scores,
)


def problem(samples: int, *shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator, dtype=torch.float64)
    return weight, torch.randn(samples, *shape, generator=generator, dtype=torch.float64)


def fisher(grads: Tensor, dampening: float) -> Tensor:
    grads = grads.flatten(1)
    return dampening * torch.eye(grads.shape[1], dtype=torch.float64) + grads.t() @ grads / len(grads)


def test_one_gradient_by_hand() -> None:
    # The Fisher matrix is diag(2, 1).
    assert inverse_fisher(torch.tensor([[1.0, 0.0]]), dampening=1.0).tolist() == [[0.5, 0.0], [0.0, 1.0]]


@settings(max_examples=30, deadline=None)
@given(samples=st.integers(1, 12), n=st.integers(1, 8), seed=st.integers(0, 99), power=st.integers(-4, 1))
def test_the_recursion_is_the_direct_inverse(samples: int, n: int, seed: int, power: int) -> None:
    dampening = 10.0**power
    _, grads = problem(samples, n, seed=seed)

    found = inverse_fisher(grads, dampening=dampening)

    direct = torch.linalg.inv(fisher(grads, dampening))
    torch.testing.assert_close(found, direct, rtol=0, atol=1e-11 / dampening)


@settings(max_examples=30, deadline=None)
@given(samples=st.integers(1, 12), n=st.integers(1, 8), seed=st.integers(0, 99), power=st.integers(-4, 1))
def test_matrix_free_products_and_diagonal_are_those_of_woodfisher(samples: int, n: int, seed: int, power: int) -> None:
    dampening = 10.0**power
    vector, grads = problem(samples, n, seed=seed)

    free, full = m_fac_inverse(grads, dampening=dampening), inverse_fisher(grads, dampening=dampening)

    torch.testing.assert_close(free.product(vector), full @ vector, rtol=0, atol=1e-11 / dampening)
    torch.testing.assert_close(free.diagonal(), full.diagonal(), rtol=0, atol=1e-11 / dampening)


def test_matrix_free_memory_is_that_of_the_gradients() -> None:
    inverse = m_fac_inverse(torch.ones(3, 100_000), dampening=1.0)

    assert inverse.directions.shape == (3, 100_000)
    assert inverse.scales.shape == (3,)


def test_the_scores_are_those_of_obs_on_the_fisher_matrix() -> None:
    weight, grads = problem(5, 3, 4)
    expected = solvers.obs_scores(weight, fisher(grads, 0.1))

    torch.testing.assert_close(m_fac_scores(weight, grads, dampening=0.1), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        woodfisher_scores(weight, grads, block_size=12, dampening=0.1), expected, rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("block_size", [1, 3, 5, 12, 50])
def test_blocks_are_scored_and_moved_each_by_its_own_fisher_matrix(block_size: int) -> None:
    weight, grads = problem(6, 12)
    found = woodfisher(weight, grads, num_active=7, block_size=block_size, dampening=0.05)
    scores = woodfisher_scores(weight, grads, block_size=block_size, dampening=0.05)
    loss = 0.0

    assert torch.equal(found.mask, masks.keep_largest(scores, 7))
    for start in range(0, 12, block_size):
        part = slice(start, start + block_size)
        w, gone = weight[part], ~found.mask[part]
        block = fisher(grads[:, part], 0.05)
        inv = torch.linalg.inv(block)
        # The formula of the paper for a set: -F^-1_:Q ([F^-1]_QQ)^-1 w_Q.
        move = inv[:, gone] @ torch.linalg.solve(inv[gone][:, gone], w[gone])
        loss += 0.5 * float(w[gone] @ torch.linalg.solve(inv[gone][:, gone], w[gone]))
        torch.testing.assert_close(scores[part], (w.square() / (2 * inv.diagonal())).float(), rtol=1e-6, atol=0)
        torch.testing.assert_close(found.weight[part], w - move, rtol=1e-10, atol=1e-12)
    assert found.loss_increase == pytest.approx(loss, rel=1e-10)


@pytest.mark.parametrize("num_active", [0, 1, 5, 11, 12])
def test_m_fac_is_woodfisher_with_one_block(num_active: int) -> None:
    weight, grads = problem(6, 3, 4, seed=1)

    free = m_fac(weight, grads, num_active=num_active, dampening=0.05)
    full = woodfisher(weight, grads, num_active=num_active, block_size=12, dampening=0.05)

    assert torch.equal(free.mask, full.mask)
    torch.testing.assert_close(free.weight, full.weight, rtol=1e-10, atol=1e-12)
    assert free.loss_increase == pytest.approx(full.loss_increase, rel=1e-10)


@pytest.mark.parametrize("seed", range(5))
def test_one_removal_is_that_of_obs_on_the_fisher_matrix(seed: int) -> None:
    weight, grads = problem(6, 9, seed=seed)
    oracle = obs(weight, fisher(grads, 0.05), num_active=8)

    for found in (
        woodfisher(weight, grads, num_active=8, block_size=9, dampening=0.05),
        m_fac(weight, grads, num_active=8, dampening=0.05),
    ):
        torch.testing.assert_close(found.weight, oracle.weight, rtol=1e-9, atol=1e-11)
        assert found.loss_increase == pytest.approx(oracle.loss_increase, rel=1e-9)


def test_blocks_fit_into_memory_in_several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, grads = problem(6, 50)
    expected = woodfisher(weight, grads, num_active=20, block_size=4, dampening=0.05)
    monkeypatch.setattr("gossamer.solvers.linear_algebra._BATCH_ENTRIES", 100)

    found = woodfisher(weight, grads, num_active=20, block_size=4, dampening=0.05)

    torch.testing.assert_close(found.weight, expected.weight, rtol=1e-14, atol=1e-14)
    assert torch.equal(found.mask, expected.mask)


def test_woodtaylor_is_what_the_loss_gains_over_the_best_move_without_removal() -> None:
    weight, grads = problem(6, 5)
    slope = grads.mean(0) * 3
    quadratic = fisher(grads, 0.1)
    scores = woodtaylor_scores(weight, slope, grads, block_size=5, dampening=0.1)
    free = -torch.linalg.solve(quadratic, slope)

    def loss(change: Tensor) -> float:
        return float(slope @ change + 0.5 * change @ quadratic @ change)

    for i in range(5):
        others = [j for j in range(5) if j != i]
        change = -weight.clone()
        change[others] = torch.linalg.solve(
            quadratic[others][:, others], quadratic[others, i] * weight[i] - slope[others]
        )
        assert float(scores[i]) == pytest.approx(loss(change) - loss(free), rel=1e-5)


@pytest.mark.parametrize("block_size", [2, 3, 7])
def test_woodtaylor_without_a_slope_is_woodfisher(block_size: int) -> None:
    weight, grads = problem(6, 7)

    scores = woodtaylor_scores(weight, torch.zeros(7), grads, block_size=block_size, dampening=0.1)

    assert torch.equal(scores, woodfisher_scores(weight, grads, block_size=block_size, dampening=0.1))
    with pytest.raises(ValueError, match=r"\(7,\), grad \(6,\)"):
        woodtaylor_scores(weight, torch.zeros(6), grads, block_size=2, dampening=0.1)


@pytest.mark.parametrize("dampening", [0.0, -1.0, float("nan")])
def test_without_dampening_there_is_no_inverse(dampening: float) -> None:
    weight, grads = problem(3, 4)

    for call in (
        lambda: inverse_fisher(grads, dampening=dampening),
        lambda: m_fac_inverse(grads, dampening=dampening),
        lambda: m_fac(weight, grads, num_active=2, dampening=dampening),
        lambda: woodfisher(weight, grads, num_active=2, block_size=2, dampening=dampening),
    ):
        with pytest.raises(ValueError, match="dampening must be positive, got"):
            call()


def test_no_sample_and_no_block_are_refused() -> None:
    weight, grads = problem(3, 4)

    with pytest.raises(ValueError, match=r"one sample or more .* got \(0, 4\)"):
        m_fac(weight, grads[:0], num_active=2, dampening=1.0)
    with pytest.raises(ValueError, match=r"\[samples, n\], got \(3, 2, 2\)"):
        inverse_fisher(grads.view(3, 2, 2), dampening=1.0)
    with pytest.raises(ValueError, match="block_size must be 1 or more, got 0"):
        woodfisher(weight, grads, num_active=2, block_size=0, dampening=1.0)
