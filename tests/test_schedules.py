import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer import schedules

_FEW = settings(deadline=None, max_examples=200, derandomize=True)
_VALUE = st.floats(0, 1)
_STEP = st.integers(0, 10**7)


@pytest.mark.parametrize("step", [0, 1, 10**9])
def test_constant_is_the_same_at_every_step(step: int) -> None:
    assert schedules.constant(0.3)(step) == 0.3


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.3), (25, 0.15 * (1 + math.sqrt(0.5))), (50, 0.15), (100, 0.0), (101, 0.0), (10**9, 0.0)],
)
def test_cosine_falls_along_half_a_cosine(step: int, expected: float) -> None:
    assert schedules.cosine(0.3, 0.0, 100)(step) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0.1), (10, 0.1), (15, 0.8), (20, 0.9), (21, 0.9), (10**9, 0.9), (12, 0.9 - 0.8 * 0.512)]
)
def test_cubic_moves_between_its_two_steps_alone(step: int, expected: float) -> None:
    assert schedules.cubic(0.1, 0.9, start_step=10, stop_step=20)(step) == pytest.approx(expected, abs=1e-15)


@_FEW
@given(_VALUE, _VALUE, _STEP, _STEP, st.integers(1, 10**6))
def test_no_schedule_leaves_the_range_of_its_ends(start: float, end: float, step: int, first: int, span: int) -> None:
    low, high = sorted((start, end))

    for schedule in (
        schedules.cosine(start, end, span),
        schedules.cubic(start, end, start_step=first, stop_step=first + span),
    ):
        assert low - 1e-15 <= schedule(step) <= high + 1e-15
        # Here a rounding error would be one too many: counts refuse a fraction of -1e-17.
        assert 0.0 <= schedule(step) <= 1.0


@_FEW
@given(_VALUE, _VALUE, st.integers(1, 10**6), _STEP)
def test_the_end_is_exact(start: float, end: float, stop_step: int, later: int) -> None:
    step = stop_step + later

    assert schedules.cosine(start, end, stop_step)(step) == end
    assert schedules.cubic(start, end, start_step=0, stop_step=stop_step)(step) == end


@_FEW
@given(st.integers(2, 1000), st.integers(0, 999))
def test_a_fall_never_turns(stop_step: int, step: int) -> None:
    falling = schedules.cosine(0.5, 0.0, stop_step)
    rising = schedules.cubic(0.0, 0.9, start_step=0, stop_step=stop_step)

    assert falling(step + 1) <= falling(step)
    assert rising(step + 1) >= rising(step)


@pytest.mark.parametrize("stop_step", [0, -1])
def test_an_empty_cosine_is_refused_by_value(stop_step: int) -> None:
    with pytest.raises(ValueError, match=f"0 <= start_step < stop_step, got 0 and {stop_step}"):
        schedules.cosine(0.3, 0.0, stop_step)


@pytest.mark.parametrize(("start_step", "stop_step"), [(5, 5), (6, 5), (-1, 5)])
def test_an_empty_cubic_is_refused_by_value(start_step: int, stop_step: int) -> None:
    with pytest.raises(ValueError, match=f"0 <= start_step < stop_step, got {start_step} and {stop_step}"):
        schedules.cubic(0.0, 0.9, start_step=start_step, stop_step=stop_step)
