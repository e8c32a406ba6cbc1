import math
from collections.abc import Callable
from itertools import pairwise

import pytest

from gossamer import budgets, counts

LENET = {"fc1": (300, 784), "fc2": (100, 300), "fc3": (10, 100)}


@pytest.mark.parametrize(
    ("sparsity", "densities"),
    [(0.90, [0.0796, 0.2302, 1.0]), (0.95, [0.0385, 0.1113, 0.9185]), (0.98, [0.0154, 0.0445, 0.3674])],
)
def test_erk_gives_the_densities_of_the_survey_on_lenet_300_100(sparsity: float, densities: list[float]) -> None:
    kept = budgets.erk(LENET, sparsity=sparsity)

    # reference/survey.md, "Unit-test numbers": solved for the ERK rule of Evci et al. 2020, to 4 digits
    for density, (name, shape) in zip(densities, LENET.items(), strict=True):
        size = math.prod(shape)
        # the nearest count, or its neighbour where the total asks for it
        assert abs(kept[name] - density * size) <= 1 + 0.5e-4 * size
    assert sum(kept.values()) == counts.num_active(266_200, sparsity)


@pytest.mark.parametrize(
    ("sparsity", "total", "densities"),
    [
        (0.90, 26_620, [0.0796, 0.2302, 1.0]),
        (0.95, 13_310, [0.0385, 0.1113, 0.9185]),
        (0.98, 5_324, [0.0154, 0.0445, 0.3674]),
    ],
)
def test_erk_is_the_rule_of_the_paper_to_the_digit(sparsity: float, total: int, densities: list[float]) -> None:
    sums = {name: sum(shape) for name, shape in LENET.items()}
    dense = [name for name in LENET if total * sums[name] / sum(sums.values()) > math.prod(LENET[name])]
    free = total - sum(math.prod(LENET[name]) for name in dense)
    scale = free / sum(sums[name] for name in LENET if name not in dense)
    shares = {name: math.prod(LENET[name]) if name in dense else scale * sums[name] for name in LENET}

    kept = budgets.erk(LENET, sparsity=sparsity)

    assert [round(shares[name] / math.prod(LENET[name]), 4) for name in LENET] == densities
    assert all(abs(kept[name] - shares[name]) < 1 for name in LENET)
    assert sum(kept.values()) == total


def test_er_and_erk_agree_on_linear_weights() -> None:
    assert budgets.er(LENET, sparsity=0.95) == budgets.erk(LENET, sparsity=0.95)


def test_er_by_hand() -> None:
    kept = budgets.er({"a": (30, 10), "b": (10, 10)}, sparsity=0.85)

    # n_in + n_out: 40 and 20; the total 60 goes two to one
    assert kept == {"a": 40, "b": 20}


def test_erk_by_hand_on_convolutions() -> None:
    shapes = {"thin": (8, 4, 3, 3), "wide": (16, 8, 1, 1), "long": (4, 4, 5)}

    kept = budgets.erk(shapes, sparsity=0.75)

    # sums of the axes: 18, 26, 13; the total is a quarter of 288 + 128 + 80
    assert counts.num_active(496, 0.75) == 124
    assert sum(kept.values()) == 124
    for name, share in (("thin", 124 * 18 / 57), ("wide", 124 * 26 / 57), ("long", 124 * 13 / 57)):
        assert abs(kept[name] - share) < 1


def test_er_scales_every_kernel_entry_alike() -> None:
    kept = budgets.er({"conv": (10, 20, 3, 3), "linear": (10, 20)}, sparsity=0.8)

    # equal densities: (10 + 20) / (10 * 20) for both
    assert kept == {"conv": 360, "linear": 40}


def test_what_a_full_tensor_cannot_hold_goes_to_the_others_in_proportion() -> None:
    kept = budgets.er({"a": (100, 100), "b": (100, 300), "tiny": (1, 100)}, sparsity=0.9)

    # tiny: share 4010 * 101 / 701 > 100; the rest, 3910, goes 200 to 400
    assert kept["tiny"] == 100
    assert kept["a"] == pytest.approx(3910 / 3, abs=1)
    assert sum(kept.values()) == 4010


def test_a_tensor_whose_share_is_below_one_keeps_one() -> None:
    shapes = {"a": (1000, 1000), "b": (1, 2), "c": (1, 2)}

    # three weights for three tensors; by proportion the first would take all of them
    assert budgets.er(shapes, sparsity=0.999997) == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize(
    ("epsilon", "shape", "density"),
    [
        (13, (1000, 784), 0.0296),
        (13, (1000, 1000), 0.026),
        (20, (4000, 3072), 0.0115),
        (20, (1000, 4000), 0.025),
        (20, (4000, 1000), 0.025),
    ],
    ids=str,
)
def test_epsilon_gives_the_densities_of_the_set_paper(epsilon: int, shape: tuple[int, int], density: float) -> None:
    kept = budgets.er_epsilon({"w": shape}, epsilon=epsilon)["w"]

    # the densities of the networks of Mocanu et al. 2018: eps 13 on Fashion-MNIST, eps 20 on CIFAR-10
    assert kept == epsilon * sum(shape)
    assert kept / math.prod(shape) == pytest.approx(density, abs=6e-5)


def test_epsilon_fills_a_small_output_layer_and_rounds_to_the_nearest() -> None:
    kept = budgets.er_epsilon({"out": (10, 1000), "odd": (3, 4), "conv": (8, 4, 3, 3), "none": (0, 5)}, epsilon=1.5)

    # 1.5 * 7 = 10.5 rounds to the even 10
    assert kept == {"out": 1515, "odd": 10, "conv": 18, "none": 0}
    assert budgets.er_epsilon({"out": (10, 1000)}, epsilon=13) == {"out": 10_000}


@pytest.mark.parametrize("epsilon", [0, -1, math.inf, math.nan])
def test_an_epsilon_that_is_no_positive_number_is_refused(epsilon: float) -> None:
    with pytest.raises(ValueError, match="epsilon must be a positive number"):
        budgets.er_epsilon({"w": (3, 4)}, epsilon=epsilon)


@pytest.mark.parametrize("budget", [budgets.er, budgets.erk])
def test_a_fuller_network_never_takes_more_than_a_weight_from_a_tensor(budget: Callable[..., dict[str, int]]) -> None:
    shapes = {"a": (64, 32, 3, 3), "b": (128, 64), "c": (10, 128), "d": (1, 3)}

    rising = [budget(shapes, sparsity=1 - step / 200) for step in range(1, 201)]

    for sparser, fuller in pairwise(rising):
        # largest remainders may move one weight the other way
        assert all(fuller[name] >= sparser[name] - 1 for name in shapes)
