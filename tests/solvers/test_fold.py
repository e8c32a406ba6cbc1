import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from gossamer.solvers import fold_mean, merge_correlated, merge_similar


def reader(units: int, *, out: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(out, units, generator=generator, dtype=torch.float64),
        torch.randn(out, generator=generator, dtype=torch.float64),
    )


def activations(units: int, *, samples: int = 50, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    data = torch.randn(samples, units, generator=generator, dtype=torch.float64)
    return (data @ torch.randn(units, units, generator=generator, dtype=torch.float64) + 1.0).relu()


def moments(data: Tensor) -> tuple[Tensor, Tensor]:
    return data.mean(0), torch.cov(data.t(), correction=0)


def test_a_mean_folds_into_the_bias_by_hand() -> None:
    outgoing, bias = torch.tensor([[2.0, 3.0], [1.0, -4.0]]), torch.tensor([1.0, 0.0])

    folded = fold_mean(outgoing, bias, torch.tensor([5.0, 0.5]), torch.tensor([False, True]))

    assert folded.tolist() == [2.5, -2.0]
    assert bias.tolist() == [1.0, 0.0]


def test_folding_the_mean_makes_the_mean_of_the_outputs_exact_and_never_raises_their_error() -> None:
    data, (outgoing, bias) = activations(6), reader(6)
    removed = torch.tensor([True, False, False, True, True, False])
    before = data @ outgoing.t() + bias

    folded = fold_mean(outgoing, bias, data.mean(0), removed)

    after, bare = ((data * ~removed) @ outgoing.t() + new for new in (folded, bias))
    torch.testing.assert_close(after.mean(0), before.mean(0), rtol=1e-13, atol=1e-13)
    assert ((after - before).square().mean(0) <= (bare - before).square().mean(0)).all()


def test_a_constant_unit_folds_exactly() -> None:
    data, (outgoing, bias) = activations(4), reader(4)
    data[:, 2] = 0.7
    removed = torch.tensor([False, False, True, False])

    folded = fold_mean(outgoing, bias, data.mean(0), removed)

    torch.testing.assert_close((data * ~removed) @ outgoing.t() + folded, data @ outgoing.t() + bias)


def test_a_kernel_counts_with_its_sum() -> None:
    kernel = torch.randn(3, 2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    images = torch.randn(1, 2, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    images[:, 1] = 0.3
    bias, removed = torch.ones(3, dtype=torch.float64), torch.tensor([False, True])

    folded = fold_mean(kernel, bias, torch.tensor([0.0, 0.3], dtype=torch.float64), removed)

    torch.testing.assert_close(conv2d(images[:, :1], kernel[:, :1], folded), conv2d(images, kernel, bias))


def test_a_linear_copy_merges_by_hand() -> None:
    # a_1 = 2 a_0 + 3 with E a_0 = 1; unit 1 loses less: 4 * 1 < 1 * 9.
    covariance, mean = torch.tensor([[1.0, 2.0], [2.0, 4.0]]), torch.tensor([1.0, 5.0])

    found = merge_correlated(torch.tensor([[3.0, 1.0]]), torch.tensor([0.0]), mean, covariance, num_units=1)

    assert found.mask.tolist() == [True, False]
    assert found.outgoing.tolist() == [[5.0, 0.0]]
    assert found.outgoing_bias.tolist() == [3.0]


def test_of_a_pair_the_one_that_loses_less_goes() -> None:
    covariance, mean = torch.tensor([[1.0, 2.0], [2.0, 4.0]]), torch.tensor([1.0, 5.0])

    found = merge_correlated(torch.tensor([[1.0, 3.0]]), torch.tensor([0.0]), mean, covariance, num_units=1)

    # Half of unit 1, less three halves, says what unit 0 said.
    assert found.outgoing.tolist() == [[0.0, 3.5]]
    assert found.outgoing_bias.tolist() == [-1.5]


def test_units_that_are_linear_in_another_merge_without_any_error() -> None:
    data, (outgoing, bias) = activations(6), reader(6)
    data[:, 4], data[:, 1] = 2.0 - 3.0 * data[:, 0], 0.5 * data[:, 0]
    data[:, 5] = 0.25

    found = merge_correlated(outgoing, bias, *moments(data), num_units=3)

    assert not found.mask[5]
    assert found.mask[[2, 3]].all()
    after = (data * found.mask) @ found.outgoing.t() + found.outgoing_bias
    torch.testing.assert_close(after, data @ outgoing.t() + bias, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("num_units", range(7))
def test_one_merge_after_another_keeps_the_mean_of_the_outputs(num_units: int) -> None:
    data, (outgoing, bias) = activations(6), reader(6)

    found = merge_correlated(outgoing, bias, *moments(data), num_units=num_units)

    after = (data * found.mask) @ found.outgoing.t() + found.outgoing_bias
    torch.testing.assert_close(after.mean(0), (data @ outgoing.t() + bias).mean(0), rtol=1e-11, atol=1e-11)
    assert int(found.mask.sum()) == num_units
    assert not found.outgoing[:, ~found.mask].any()


def test_one_merge_of_a_pair_costs_less_than_folding_its_mean() -> None:
    for seed in range(10):
        data, (outgoing, bias) = activations(5, seed=seed), reader(5, seed=seed)
        mean, covariance = moments(data)
        found = merge_correlated(outgoing, bias, mean, covariance, num_units=4)
        before, merged = data @ outgoing.t() + bias, data @ found.outgoing.t() + found.outgoing_bias

        folded = (data * found.mask) @ outgoing.t() + fold_mean(outgoing, bias, mean, ~found.mask)

        assert (merged - before).square().sum() < (folded - before).square().sum()


def test_equal_units_merge_by_hand_and_the_least_heard_of_others_goes() -> None:
    weight = torch.tensor([[1.0], [4.0], [1.0], [5.0]])
    outgoing = torch.tensor([[2.0, 1.0, 5.0, 3.0]])

    # The twins cost nothing; then 1 * (5 - 4)^2 is least: unit 1 goes into unit 3.
    found = [merge_similar(weight, outgoing, num_units=num_units) for num_units in (3, 2)]

    assert found[0].outgoing.tolist() == [[7.0, 1.0, 0.0, 3.0]]
    assert found[1].outgoing.tolist() == [[7.0, 0.0, 0.0, 4.0]]
    assert found[1].mask.tolist() == [True, False, False, True]


def test_twins_merge_without_any_error_for_any_activation() -> None:
    inputs = activations(4)
    incoming, (outgoing, _) = reader(4, out=6, seed=1)[0], reader(6)
    incoming[3], incoming[5] = incoming[0], incoming[2]

    found = merge_similar(incoming, outgoing, num_units=4)

    hidden = (inputs @ incoming.t()).relu()
    assert int(found.mask.sum()) == 4
    torch.testing.assert_close((hidden * found.mask) @ found.outgoing.t(), hidden @ outgoing.t())


def test_each_merge_costs_the_least_of_all_pairs() -> None:
    incoming, (outgoing, _) = reader(3, out=5, seed=2)[0], reader(5)
    costs = {
        (goes, stays): float(outgoing[:, goes].square().mean() * (incoming[goes] - incoming[stays]).square().sum())
        for goes in range(5)
        for stays in range(5)
        if goes != stays
    }
    goes, stays = min(costs, key=lambda pair: costs[pair])

    found = merge_similar(incoming, outgoing, num_units=4)

    assert found.mask.tolist() == [unit != goes for unit in range(5)]
    torch.testing.assert_close(found.outgoing[:, stays], outgoing[:, stays] + outgoing[:, goes])


def test_merges_keep_shape_dtype_and_arguments() -> None:
    outgoing = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16).requires_grad_()
    bias, weight, mean = torch.zeros(3, dtype=torch.float16), torch.eye(4), torch.ones(4)
    before = outgoing.detach().clone()

    similar = merge_similar(weight, outgoing, num_units=2)
    correlated = merge_correlated(outgoing, bias, mean, torch.eye(4) + 1, num_units=2)
    similar.outgoing.fill_(7.0)
    correlated.outgoing_bias.fill_(7.0)

    assert similar.outgoing.shape == correlated.outgoing.shape == (3, 4, 2, 2)
    assert similar.outgoing.dtype == correlated.outgoing.dtype == torch.bfloat16
    assert correlated.outgoing_bias.dtype == torch.float16
    assert torch.equal(outgoing, before)
    assert not bias.any()


@pytest.mark.parametrize("num_units", [-1, 5])
def test_a_number_of_units_out_of_range_is_refused(num_units: int) -> None:
    outgoing, bias = reader(4)

    for call in (
        lambda: merge_similar(torch.eye(4), outgoing, num_units=num_units),
        lambda: merge_correlated(outgoing, bias, torch.ones(4), torch.eye(4), num_units=num_units),
    ):
        with pytest.raises(ValueError, match=rf"num_units must lie in \[0, 4\], got {num_units}"):
            call()


def test_all_and_no_units_and_none_to_begin_with() -> None:
    outgoing, bias = reader(4)
    empty = torch.zeros(3, 0)

    assert torch.equal(merge_similar(torch.eye(4), outgoing, num_units=4).outgoing, outgoing)
    assert not merge_similar(torch.eye(4), outgoing, num_units=0).mask.any()
    assert merge_similar(torch.zeros(0, 2), empty, num_units=0).outgoing.shape == (3, 0)
    assert torch.equal(merge_correlated(empty, bias, torch.ones(0), torch.ones(0, 0), num_units=0).outgoing_bias, bias)


def test_tensors_that_do_not_fit_or_hold_nan_are_refused() -> None:
    outgoing, bias = reader(4)
    nan, removed = torch.full((4,), float("nan")), torch.zeros(4, dtype=torch.bool)

    with pytest.raises(ValueError, match="activation_mean holds 4 values that are NaN"):
        fold_mean(outgoing, bias, nan, removed)
    with pytest.raises(ValueError, match=r"outgoing_bias must have shape \(3,\).* got \(4,\)"):
        fold_mean(outgoing, torch.ones(4), torch.ones(4), removed)
    with pytest.raises(ValueError, match=r"removed must have shape \(4,\)"):
        fold_mean(outgoing, bias, torch.ones(4), removed[:3])
    with pytest.raises(ValueError, match=r"activation_covariance must have shape \(4, 4\)"):
        merge_correlated(outgoing, bias, torch.ones(4), torch.eye(3), num_units=2)
    with pytest.raises(ValueError, match=r"weight must have shape \[4, in, \.\.\.\].* got \(3, 3\)"):
        merge_similar(torch.eye(3), outgoing, num_units=2)
    with pytest.raises(ValueError, match=r"outgoing must have shape \[out2, units, \.\.\.\], got \(4,\)"):
        merge_similar(torch.eye(4), torch.ones(4), num_units=2)
