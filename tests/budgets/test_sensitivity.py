import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.budgets import sensitivity

SHAPES = {"a": (10, 10), "b": (10, 10)}


def test_both_tensors_rise_alike() -> None:
    losses = {"a": {0.0: 1.0, 1.0: 2.0}, "b": {0.0: 1.0, 1.0: 1.5}}

    # rise r: a loses r, b loses 2 r of its entries; 60 removed of 200 is r = 0.2
    assert sensitivity(SHAPES, sparsity=0.3, losses=losses) == {"a": 80, "b": 60}


def test_a_loss_that_falls_again_counts_as_the_largest_so_far() -> None:
    losses = {"a": {0.0: 1.0, 0.2: 1.2, 0.4: 1.1, 0.6: 1.2, 1.0: 1.6}, "b": {0.0: 1.0, 1.0: 2.0}}

    # rise 0.3: a reaches 0.7, b 0.3
    assert sensitivity(SHAPES, sparsity=0.5, losses=losses) == {"a": 30, "b": 70}


def test_where_one_rise_spans_many_sparsities_each_goes_the_same_share_of_its_way() -> None:
    losses = {"a": {0.0: 1.0, 0.8: 0.9, 1.0: 3.0}, "b": {0.0: 1.0, 0.4: 1.0, 1.0: 3.0}}

    # free: 80 of a and 40 of b; half of that is asked
    assert sensitivity(SHAPES, sparsity=0.3, losses=losses) == {"a": 60, "b": 80}


def test_no_tensor_passes_the_largest_sparsity_tried_on_it() -> None:
    losses = {"a": {0.0: 1.0, 0.5: 1.0}, "b": {0.0: 1.0, 0.9: 9.0}}

    assert sensitivity(SHAPES, sparsity=0.65, losses=losses) == {"a": 50, "b": 20}
    assert sensitivity(SHAPES, sparsity=0.7, losses=losses) == {"a": 50, "b": 10}
    with pytest.raises(ValueError, match=r"the scan goes up to sparsity 0.7 over all tensors, asked is 0.75"):
        sensitivity(SHAPES, sparsity=0.75, losses=losses)


def test_the_order_of_the_scan_does_not_matter() -> None:
    scan = {0.9: 2.0, 0.0: 1.0, 0.5: 1.1}

    found = sensitivity({"a": (10, 10)}, sparsity=0.5, losses={"a": scan})

    assert found == {"a": 50}


@settings(max_examples=100, deadline=None)
@given(
    rises=st.lists(st.lists(st.floats(0, 2), min_size=4, max_size=4), min_size=2, max_size=4),
    sparsity=st.floats(0, 0.9),
)
def test_nobody_who_could_give_more_at_no_larger_rise_is_spared(rises: list[list[float]], sparsity: float) -> None:
    tried = [0.3, 0.6, 0.9, 1.0]
    losses = {str(i): {0.0: 1.0} | {s: 1.0 + r for s, r in zip(tried, row, strict=True)} for i, row in enumerate(rises)}
    shapes = dict.fromkeys(losses, (1000, 10))

    kept = sensitivity(shapes, sparsity=sparsity, losses=losses)

    # the rise of each tensor a few weights before its count is at most that of any other a few weights after its own
    before = [envelope(losses[name], 1 - (kept[name] + 3) / 10_000) for name in losses if kept[name] < 9997]
    after = [envelope(losses[name], 1 - (kept[name] - 3) / 10_000) for name in losses if kept[name] > 4]
    assert not before or not after or max(before) <= min(after) + 1e-9


def envelope(scan: dict[float, float], sparsity: float) -> float:
    """The largest loss up to a sparsity, linear between those tried."""
    ordered, worst = sorted(scan.items()), 1.0
    for (left, loss), (right, after) in pairwise(ordered):
        if sparsity > left:
            worst = max(worst, loss)
            share = min(1.0, (sparsity - left) / (right - left))
            worst = max(worst, worst + share * (max(worst, after) - worst))
    return worst


@pytest.mark.parametrize(
    ("losses", "text"),
    [
        ({"a": {0.0: 1.0, 0.5: 2.0}}, "no losses for b"),
        ({"a": {0.0: 1.0}, "b": {0.0: 1.0}, "z": {}}, "losses for z"),
        ({"a": {0.5: 2.0}, "b": {0.0: 1.0}}, "scan of a lacks the dense loss"),
        ({"a": {0.0: 1.0, 1.5: 2.0}, "b": {0.0: 1.0}}, r"scan of a must map sparsities in \[0, 1\]"),
        ({"a": {0.0: math.nan}, "b": {0.0: 1.0}}, "scan of a must map"),
    ],
    ids=["lacks", "surplus", "no dense", "beyond", "nan"],
)
def test_a_scan_that_does_not_fit_is_refused(losses: dict[str, dict[float, float]], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        sensitivity(SHAPES, sparsity=0.0, losses=losses)
