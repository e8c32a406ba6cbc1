import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.budgets import by_hand, er, erk, global_, uniform

SHAPES = {"block1.conv": (10, 10), "block1.fc": (20, 10), "block2.conv": (10, 10), "head": (5, 20)}


def test_globs_and_regular_expressions_fix_what_they_match_and_the_rest_meets_the_total() -> None:
    budget = by_hand({"block1.*": 0.5, "re:.*head": 0.0})

    # 300 of 500: 50 + 100 + 100 are fixed, 50 are left
    assert budget(SHAPES, sparsity=0.4) == {"block1.conv": 50, "block1.fc": 100, "block2.conv": 50, "head": 100}


def test_the_first_rule_that_matches_counts() -> None:
    budget = by_hand({"block1.fc": 0.9, "block*": 0.5})

    assert budget(SHAPES, sparsity=0.6) == {"block1.conv": 50, "block1.fc": 20, "block2.conv": 50, "head": 80}


def test_a_regular_expression_matches_the_whole_name() -> None:
    shapes = {"fc": (10, 10), "fc2": (10, 10), "fc3": (10, 10)}

    assert by_hand({"re:fc": 0.9, "re:fc2": 0.2})(shapes, sparsity=0.5) == {"fc": 10, "fc2": 80, "fc3": 60}
    with pytest.raises(ValueError, match="matches no tensor"):
        by_hand({"re:block1": 0.5})(SHAPES, sparsity=0.5)


def test_a_rule_without_a_tensor_is_refused_with_the_nearest_names() -> None:
    with pytest.raises(
        ValueError, match=r"rule 'blok1.conv' matches no tensor; the nearest names are block1.conv, block"
    ):
        by_hand({"blok1.conv": 0.5})(SHAPES, sparsity=0.5)


def test_a_rule_in_the_shadow_of_another_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rule 'head' matches only tensors that earlier rules take; put it before"):
        by_hand({"*": 0.5, "head": 0.0})(SHAPES, sparsity=0.5)


@pytest.mark.parametrize(
    ("sparsity", "text"),
    [(0.9, "would have to keep -50 of their 100 weights"), (0.2, "would have to keep 300 of their 100 weights")],
)
def test_a_total_that_the_rest_cannot_meet_is_refused_with_what_it_would_have_to_keep(
    sparsity: float, text: str
) -> None:
    budget = by_hand({"block*": 0.75})

    # 25 + 50 + 25 are fixed
    with pytest.raises(ValueError, match=text):
        budget(SHAPES, sparsity=sparsity)


def test_rules_for_every_tensor_must_make_the_total() -> None:
    shapes = {"a": (1, 5), "b": (1, 5), "c": (1, 5)}

    # 2.5 each: 2 + 2 + 2 by rounding, 7 or 8 in all
    assert sum(by_hand({"*": 0.5})(shapes, sparsity=0.5).values()) == 8
    with pytest.raises(ValueError, match=r"the rules fix every tensor, which makes the sparsity 0.6; ask for that"):
        by_hand({"*": 0.5})(shapes, sparsity=0.8)


@settings(max_examples=100, deadline=None)
@given(sizes=st.lists(st.integers(1, 50), min_size=2, max_size=6), sparsity=st.floats(0, 0.95), rule=st.floats(0, 0.99))
def test_the_total_is_exact_whatever_the_rest_rounds(sizes: list[int], sparsity: float, rule: float) -> None:
    shapes = {f"w{i}": (size, 3) for i, size in enumerate(sizes)}
    total = max(1, round(3 * sum(sizes) * (1 - sparsity)))
    first = max(1, round(3 * sizes[0] * (1 - rule)))
    for rest in (uniform, er):
        try:
            found = by_hand({"w0": rule}, rest=rest)(shapes, sparsity=sparsity)
        except ValueError:
            assert not len(sizes) - 1 <= total - first <= 3 * sum(sizes[1:])
            continue

        assert found["w0"] == first
        assert sum(found.values()) == total
        assert all(1 <= found[f"w{i}"] <= 3 * size for i, size in enumerate(sizes))


def test_the_rest_goes_as_the_given_budget_says() -> None:
    shapes = {"a": (100, 100), "b": (10, 100), "fixed": (10, 10)}

    found = by_hand({"fixed": 0.0}, rest=erk)(shapes, sparsity=0.8)

    # 2220 less 100, in the proportion of 200 to 110
    assert found == {"a": 1368, "b": 752, "fixed": 100}


def test_a_rest_with_scores_asks_for_them() -> None:
    scores = {"a": torch.tensor([[1.0, 2.0]]), "b": torch.tensor([[3.0, 4.0]]), "c": torch.tensor([[0.0, 0.0]])}

    budget = by_hand({"c": 0.0}, rest=global_)

    assert "scores" in inspect.signature(budget).parameters
    assert "scores" not in inspect.signature(by_hand({"c": 0.0})).parameters
    assert budget(dict.fromkeys(scores, (1, 2)), sparsity=1 / 3, scores=scores) == {"a": 0, "b": 2, "c": 2}


@pytest.mark.parametrize("sparsity", [1.0, -0.1, 90.0])
def test_a_rule_outside_the_range_is_refused_at_once(sparsity: float) -> None:
    with pytest.raises(ValueError, match="sparsity must lie in"):
        by_hand({"a": sparsity})


def test_a_broken_regular_expression_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"'re:\(' is no regular expression: .*leave out re: for a glob"):
        by_hand({"re:(": 0.5})
