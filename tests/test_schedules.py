import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import SGD

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


def _moves(start: float, end: float, first: int, last: int) -> list[schedules.Schedule]:
    return [move(start, end, start_step=first, stop_step=last) for move in (schedules.linear, schedules.exponential)]


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0.1), (10, 0.1), (12, 0.26), (15, 0.5), (20, 0.9), (21, 0.9), (10**9, 0.9)]
)
def test_linear_takes_equal_steps(step: int, expected: float) -> None:
    assert schedules.linear(0.1, 0.9, start_step=10, stop_step=20)(step) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("num_rounds", [1, 5, 100])
def test_exponential_is_the_density_of_each_round_of_synflow(num_rounds: int) -> None:
    schedule = schedules.exponential(0.0, 0.98, start_step=0, stop_step=num_rounds)

    for i in range(num_rounds):
        assert 1 - schedule(i + 1) == pytest.approx(0.02 ** ((i + 1) / num_rounds), abs=1e-15)


def test_exponential_multiplies_the_density_by_one_factor_from_any_start() -> None:
    schedule = schedules.exponential(0.5, 0.9375, start_step=10, stop_step=40)

    # densities 1/2, 1/4, 1/8, 1/16
    assert [schedule(step) for step in (0, 10, 20, 30, 40, 50)] == pytest.approx(
        [0.5, 0.5, 0.75, 0.875, 0.9375, 0.9375], abs=1e-15
    )


@_FEW
@given(st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True), _STEP, st.integers(1, 10**6), st.data())
def test_moves_have_exact_ends_stay_between_them_and_never_turn(
    start: float, end: float, first: int, span: int, data: st.DataObject
) -> None:
    step = data.draw(st.integers(first - 2, first + span + 1))

    for move in _moves(start, end, first, first + span):
        values = [move(step), move(step + 1), move(data.draw(st.integers(step + 2, first + span + 3)))]

        assert move(first) == move(0) == start
        assert move(first + span) == move(10**9) == end
        assert min(start, end) <= min(values)
        assert max(values) <= max(start, end)
        assert values == sorted(values, reverse=start > end)


@_FEW
@given(st.floats(0, 1, exclude_max=True), st.integers(0, 101))
def test_a_move_from_a_value_to_itself_does_not_move(value: float, step: int) -> None:
    for move in _moves(value, value, 0, 100):
        assert move(step) == value


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0.0), (99, 0.0), (100, 0.2), (149, 0.2), (150, 0.36), (249, 0.488), (250, 0.5904)]
)
def test_iterative_keeps_four_fifths_of_the_survivors_each_round(step: int, expected: float) -> None:
    schedule = schedules.iterative(0.2, update_every=50, start_step=100, stop_step=299)

    # rounds at 100, 150, 200 and 250
    assert schedule(step) == pytest.approx(expected, abs=1e-15)
    assert schedule(10**9) == schedule(299) == schedule(250)


@_FEW
@given(st.floats(0, 1), st.integers(1, 1000), st.integers(0, 1000), st.integers(0, 10**6), st.integers(0, 10**6), _STEP)
def test_iterative_never_falls_and_stays_a_sparsity(
    drop_fraction: float, update_every: int, start_step: int, span: int, step: int, later: int
) -> None:
    schedule = schedules.iterative(
        drop_fraction, update_every=update_every, start_step=start_step, stop_step=start_step + span
    )

    assert 0.0 <= schedule(step) <= schedule(step + later) < 1.0
    assert schedule(start_step + span + later) == schedule(start_step + span)


def test_one_round_of_iterative_is_one_shot() -> None:
    schedule = schedules.iterative(0.75, update_every=7, start_step=5, stop_step=5)

    assert [schedule(step) for step in range(20)] == [schedules.one_shot(0.75, step=5)(step) for step in range(20)]


def test_one_shot_is_all_at_once() -> None:
    assert [schedules.one_shot(0.9, step=2)(step) for step in range(4)] == [0.0, 0.0, 0.9, 0.9]


def test_prechelt_by_hand() -> None:
    # alpha GL = 0, 1, 3, 9: nothing, 1/2, 3/4, 9/10 of the largest
    found = [schedules.prechelt(loss, largest=0.4, alpha=2.0) for loss in (0.0, 0.5, 1.5, 4.5)]

    assert found == pytest.approx([0.0, 0.2, 0.3, 0.36], abs=1e-15)


@_FEW
@given(st.floats(0, 1e12), st.floats(0, 1e12), _VALUE, st.floats(1e-6, 1e6))
def test_prechelt_rises_with_the_generalization_loss_and_stays_below_the_largest(
    loss: float, more: float, largest: float, alpha: float
) -> None:
    found = schedules.prechelt(loss, largest=largest, alpha=alpha)

    assert 0.0 <= found <= schedules.prechelt(loss + more, largest=largest, alpha=alpha) <= largest


def test_the_generalization_loss_is_against_the_smallest_so_far() -> None:
    assert schedules.generalization_loss([4.0, 2.0, 3.0]) == 50.0
    assert schedules.generalization_loss([4.0, 3.0, 2.0]) == 0.0
    assert schedules.generalization_loss([5.0]) == 0.0


@pytest.mark.parametrize("losses", [[], [1.0, 0.0], [-1.0], [1.0, math.nan], [math.inf]])
def test_a_generalization_loss_of_no_positive_losses_is_refused(losses: list[float]) -> None:
    with pytest.raises(ValueError, match="one or more positive numbers, got"):
        schedules.generalization_loss(losses)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: schedules.linear(0.0, 0.9, start_step=5, stop_step=5), "start_step < stop_step, got 5 and 5"),
        (lambda: schedules.exponential(0.0, 0.9, start_step=6, stop_step=5), "start_step < stop_step, got 6 and 5"),
        (lambda: schedules.exponential(0.0, 1.0, start_step=0, stop_step=5), "sparsity must lie in"),
        (lambda: schedules.exponential(-0.1, 0.5, start_step=0, stop_step=5), "sparsity must lie in"),
        (lambda: schedules.iterative(1.2, update_every=1, start_step=0, stop_step=5), "drop_fraction must lie in"),
        (lambda: schedules.iterative(0.2, update_every=0, start_step=0, stop_step=5), "update_every must be 1 or more"),
        (lambda: schedules.iterative(0.2, update_every=1, start_step=6, stop_step=5), "<= stop_step, got 6 and 5"),
        (lambda: schedules.one_shot(1.0, step=3), "sparsity must lie in"),
        (lambda: schedules.one_shot(0.5, step=-1), "step must be 0 or more, got -1"),
        (lambda: schedules.prechelt(-1.0, largest=0.5, alpha=1.0), "generalization_loss must be 0 or more"),
        (lambda: schedules.prechelt(1.0, largest=1.5, alpha=1.0), "largest must lie in"),
        (lambda: schedules.prechelt(1.0, largest=0.5, alpha=0.0), "alpha must be a positive number, got 0"),
    ],
)
def test_settings_outside_their_range_are_refused_by_value(make: Callable[[], object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


def test_the_last_steps_of_a_schedule_are_replayed() -> None:
    schedule = schedules.cosine(1.0, 0.0, 10)
    again = schedules.rewound(schedule, stop_step=10, num_steps=4)

    assert [again(step) for step in range(6)] == [schedule(step) for step in (6, 7, 8, 9, 9, 9)]


def test_it_drives_the_learning_rate_of_torch() -> None:
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    again = schedules.rewound(lambda step: 1.0 if step < 8 else 0.5, stop_step=10, num_steps=3)
    rates = []
    scheduled = torch.optim.lr_scheduler.LambdaLR(optimizer, again)
    for _ in range(3):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduled.step()

    assert rates == [2.0, 1.0, 1.0]


@pytest.mark.parametrize("num_steps", [0, 11])
def test_more_steps_than_there_were_cannot_be_replayed(num_steps: int) -> None:
    with pytest.raises(ValueError, match=rf"num_steps must lie in \[1, stop_step\], got {num_steps} of 10"):
        schedules.rewound(schedules.constant(1.0), stop_step=10, num_steps=num_steps)
