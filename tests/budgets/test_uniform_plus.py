import pytest

from gossamer.budgets import uniform_plus

SHAPES = {"conv": (10, 10), "a": (50, 20), "b": (10, 20), "fc": (10, 10)}


def test_the_first_is_dense_the_last_keeps_a_fifth_the_others_are_alike() -> None:
    # 140 of 1400: 100 + 20 are fixed, 20 for 1200 entries
    assert uniform_plus(SHAPES, sparsity=0.9) == {"conv": 100, "a": 17, "b": 3, "fc": 20}


def test_the_last_is_like_the_others_while_they_keep_more_than_a_fifth() -> None:
    # 750 of 1400: half of all but the first
    assert uniform_plus(SHAPES, sparsity=1 - 750 / 1400) == {"conv": 100, "a": 500, "b": 100, "fc": 50}


def test_what_cannot_be_reached_is_refused_with_the_largest_that_can() -> None:
    # 100 + 20 + one each for a and b: 122 of 1400
    with pytest.raises(ValueError, match=r"sparsity 0.95: it keeps conv dense .* fc, so 0.912857 is the largest"):
        uniform_plus(SHAPES, sparsity=0.95)

    assert uniform_plus(SHAPES, sparsity=1 - 122 / 1400) == {"conv": 100, "a": 1, "b": 1, "fc": 20}


def test_the_gradual_pruning_study_on_a_small_residual_network_is_denser_at_the_ends() -> None:
    shapes = {"stem": (64, 3, 7, 7), "body": (512, 512, 3, 3), "shortcut": (512, 256, 1, 1), "fc": (1000, 512)}

    kept = uniform_plus(shapes, sparsity=0.95)

    assert kept["stem"] == 9408
    assert kept["fc"] == 102_400
    assert sum(kept.values()) == round(0.05 * (9408 + 2_359_296 + 131_072 + 512_000))
    assert kept["body"] / 2_359_296 == pytest.approx(kept["shortcut"] / 131_072, abs=1e-5)


def test_the_order_of_the_mapping_says_what_is_first() -> None:
    turned = dict(reversed(SHAPES.items()))

    assert uniform_plus(turned, sparsity=0.85)["fc"] == 100
    assert uniform_plus(turned, sparsity=0.85)["conv"] == 20


def test_a_single_tensor_is_first_and_stays_dense() -> None:
    with pytest.raises(ValueError, match=r"so 0 is the largest"):
        uniform_plus({"only": (10, 10)}, sparsity=0.5)
