import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gossamer.budgets.threshold import counts_of_largest

SCORES = st.lists(st.lists(st.floats(width=32, allow_nan=False) | st.integers(-2, 2), max_size=12), max_size=5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(max_examples=150, deadline=None)
@given(scores=SCORES, place=st.floats(0, 1))
@example(scores=[[0.0, -0.0, 0.0], [-0.0, 1.0], [math.inf, -math.inf]], place=0.6)
@example(scores=[[math.inf], [1.0, math.inf, math.inf]], place=0.5)
@example(scores=[[-math.inf], [-math.inf, -math.inf]], place=0.7)
def test_counts_are_those_of_a_sort_of_all(scores: list[list[float]], place: float, dtype: torch.dtype) -> None:
    total = round(place * sum(map(len, scores)))
    ranked = sorted((-score, tensor, i) for tensor, values in enumerate(scores) for i, score in enumerate(values))
    expected = [sum(tensor == number for _, tensor, _ in ranked[:total]) for number in range(len(scores))]

    found = counts_of_largest({str(i): torch.tensor(s, dtype=dtype) for i, s in enumerate(scores)}, total)

    assert list(found.values()) == expected


def test_scores_that_differ_in_the_last_bit_of_float64_are_told_apart() -> None:
    values = {"a": 1.0, "b": math.nextafter(1.0, 2.0)}
    scores = {name: torch.tensor([value], dtype=torch.float64) for name, value in values.items()}

    assert counts_of_largest(scores, 1) == {"a": 0, "b": 1}


def test_half_precision_counts_as_its_value() -> None:
    scores = {"a": torch.tensor([1.0, 3.0], dtype=torch.bfloat16), "b": torch.tensor([2.0, 0.5])}

    assert counts_of_largest(scores, 2) == {"a": 1, "b": 1}
