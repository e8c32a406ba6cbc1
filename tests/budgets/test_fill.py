import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.budgets.fill import one_each, proportional

PARTS = st.lists(
    st.tuples(st.integers(0, 1000), st.integers(0, 20), st.integers(0, 1000)), min_size=1, max_size=8
)  # wanted, least, room above it


@settings(max_examples=200, deadline=None)
@given(parts=PARTS, place=st.floats(0, 1))
def test_the_total_is_exact_and_no_part_leaves_its_limits(parts: list[tuple[int, int, int]], place: float) -> None:
    wanted = [float(share) for share, _, _ in parts]
    least, most = [low for _, low, _ in parts], [low + room for _, low, room in parts]
    total = sum(least) + round(place * (sum(most) - sum(least)))

    found = proportional(total, wanted, least, most)

    assert sum(found) == total
    assert all(low <= part <= high for part, low, high in zip(found, least, most, strict=True))


@settings(max_examples=100, deadline=None)
@given(parts=PARTS, place=st.floats(0.05, 0.95))
def test_parts_between_their_limits_are_in_proportion(parts: list[tuple[int, int, int]], place: float) -> None:
    wanted = [share + 1.0 for share, _, _ in parts]
    least, most = [low for _, low, _ in parts], [low + room for _, low, room in parts]
    total = sum(least) + round(place * (sum(most) - sum(least)))

    found = proportional(total, wanted, least, most)

    # part + 1 > scale * wanted unless at the most, part - 1 < scale * wanted unless at the least: one scale fits all
    rows = list(zip(found, wanted, least, most, strict=True))
    above = min(((part + 1) / share for part, share, _, high in rows if part < high), default=float("inf"))
    below = max(((part - 1) / share for part, share, low, _ in rows if part > low), default=0.0)
    assert below <= above


def test_what_a_full_part_cannot_hold_goes_to_the_others() -> None:
    assert proportional(100, [1.0, 1.0, 2.0], [0, 40, 0], [100, 100, 30]) == [30, 40, 30]


def test_parts_that_fit_already_stay_as_they_are() -> None:
    assert proportional(60, [10.0, 20.0, 30.0, 0.0], [1, 1, 1, 0], [40, 40, 40, 5]) == [10, 20, 30, 0]


@pytest.mark.parametrize(("total", "least"), [(3, [1, 0, 1, 1]), (2, [0, 0, 0, 0])])
def test_one_each_while_there_are_enough(total: int, least: list[int]) -> None:
    assert one_each(total, [5, 0, 1, 9]) == least
