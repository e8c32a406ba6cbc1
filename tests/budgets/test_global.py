import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer import counts
from gossamer.budgets import Budget, global_, lamp
from gossamer.masks import keep_largest

SHAPES = {"a": (2, 2), "b": (1, 3), "c": (1, 1)}


def some_scores(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randint(0, 5, shape, generator=generator).float() for name, shape in SHAPES.items()}


def test_global_by_hand() -> None:
    scores = {
        "a": torch.tensor([[9.0, 1.0], [8.0, 2.0]]),
        "b": torch.tensor([[7.0, 6.0, 0.0]]),
        "c": torch.tensor([[0.5]]),
    }

    # four of eight: 9, 8, 7, 6
    assert global_(SHAPES, sparsity=0.5, scores=scores) == {"a": 2, "b": 2, "c": 0}


def test_ties_go_by_the_order_of_the_mapping_of_shapes() -> None:
    scores = {name: torch.ones(SHAPES[name]) for name in ("c", "b", "a")}

    assert global_(SHAPES, sparsity=0.4, scores=scores) == {"a": 4, "b": 1, "c": 0}


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10_000), sparsity=st.floats(0, 0.99))
def test_global_counts_are_those_of_one_mask_over_all_scores(seed: int, sparsity: float) -> None:
    scores = some_scores(seed)
    together = torch.cat([values.flatten() for values in scores.values()])
    kept = keep_largest(together, counts.num_active(8, sparsity)).split([4, 3, 1])

    found = global_(SHAPES, sparsity=sparsity, scores=scores)

    assert list(found.values()) == [int(part.sum()) for part in kept]


def test_lamp_by_hand() -> None:
    # a: 1/10, 9/9; b: 1/30, 4/29, 25/25; the scale of a tensor does not count
    scores = {"a": torch.tensor([[1.0, 3.0]]), "b": torch.tensor([[500.0, 100.0, 200.0]]), "c": torch.tensor([[1e-9]])}
    shapes = {"a": (1, 2), "b": (1, 3), "c": (1, 1)}

    found = [lamp(shapes, sparsity=1 - kept / 6, scores=scores) for kept in range(1, 7)]

    assert [tuple(parts.values()) for parts in found] == [
        (1, 0, 0),
        (1, 1, 0),
        (1, 1, 1),
        (1, 2, 1),
        (2, 2, 1),
        (2, 3, 1),
    ]


def lamp_by_the_paper(values: list[float]) -> list[float]:
    """The score of each weight by the equation, in ascending order; a zero before anything that is not counts 0."""
    ordered = sorted(values)
    return [w * w / sum(v * v for v in ordered[i:]) if any(ordered[i:]) else 0.0 for i, w in enumerate(ordered)]


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10_000), kept=st.integers(3, 8))
def test_lamp_is_global_over_the_scores_of_the_paper_and_empties_no_tensor(seed: int, kept: int) -> None:
    scores = some_scores(seed)
    by_hand = {name: lamp_by_the_paper(values.flatten().tolist()) for name, values in scores.items()}
    for values in by_hand.values():
        values[-1] = 1.0

    found = lamp(SHAPES, sparsity=1 - kept / 8, scores=scores)

    as_tensors = {
        name: torch.tensor(values, dtype=torch.float64).view(SHAPES[name]) for name, values in by_hand.items()
    }
    assert found == global_(SHAPES, sparsity=1 - kept / 8, scores=as_tensors)
    assert min(found.values()) >= 1


def test_lamp_gives_equal_weights_one_after_the_other() -> None:
    # 1/4, 1/3, 1/2, 1 beside 1/2, 1: by the definition with ties on both sides no weight of `a` would pass 1/4
    scores = {"a": torch.ones(1, 4), "b": torch.ones(1, 2)}

    assert lamp({"a": (1, 4), "b": (1, 2)}, sparsity=0.5, scores=scores) == {"a": 2, "b": 1}


def test_lamp_keeps_the_last_weight_of_a_tensor_of_zeros() -> None:
    scores = {"zeros": torch.zeros(2, 3), "a": torch.ones(1, 2)}

    assert lamp({"zeros": (2, 3), "a": (1, 2)}, sparsity=0.75, scores=scores) == {"zeros": 1, "a": 1}


def test_lamp_does_not_overflow_or_underflow() -> None:
    scores = {"huge": torch.tensor([[3e38, 2e38]]), "tiny": torch.tensor([[3e-38, 1e-38]])}

    # 4/13 beside 1/10
    assert lamp({"huge": (1, 2), "tiny": (1, 2)}, sparsity=0.25, scores=scores) == {"huge": 2, "tiny": 1}


@pytest.mark.parametrize("value", [-1.0, math.inf])
def test_lamp_refuses_what_is_no_magnitude(value: float) -> None:
    with pytest.raises(ValueError, match=f"the scores of a reach from .*{value:.6g}.*criteria.magnitude"):
        lamp({"a": (1, 2)}, sparsity=0.5, scores={"a": torch.tensor([[value, 0.5]])})


@pytest.mark.parametrize("budget", [global_, lamp])
def test_scores_that_do_not_fit_are_refused_by_name(budget: Budget) -> None:
    shapes = {"a": (1, 2), "b": (1, 2)}
    good = torch.ones(1, 2)

    for scores, text in (
        ({"a": good}, "no scores for b"),
        ({"a": good, "b": good, "z": good}, "scores for z, which is no tensor"),
        ({"a": good, "b": torch.ones(2, 1)}, r"b has shape \(1, 2\), its scores \(2, 1\)"),
        ({"a": good, "b": good * math.nan}, "2 scores of b are NaN"),
    ):
        with pytest.raises(ValueError, match=text):
            budget(shapes, sparsity=0.5, scores=scores)


@pytest.mark.parametrize("budget", [global_, lamp])
def test_scores_are_left_as_they_are(budget: Budget) -> None:
    scores = {"a": torch.tensor([[3.0, 1.0], [2.0, 5.0]], requires_grad=True)}
    before = scores["a"].detach().clone()

    budget({"a": (2, 2)}, sparsity=0.5, scores=scores)

    assert torch.equal(scores["a"].detach(), before)
