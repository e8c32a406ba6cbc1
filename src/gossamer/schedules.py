"""Functions of the step that return a float."""

import math
from collections.abc import Callable

Schedule = Callable[[int], float]


def constant(value: float) -> Schedule:
    """Return the schedule that is `value` at every step.

    Example:
        >>> constant(0.3)(1_000)
        0.3
    """
    return lambda step: value


def cosine(start: float, end: float, stop_step: int) -> Schedule:
    """Fall from `start` at step 0 to `end` at `stop_step` along half a cosine; constant afterwards.

    value(t) = end + (start - end) / 2 * (1 + cos(pi t / stop_step))

    Args:
        start: value at step 0.
        end: value from `stop_step` on.
        stop_step: length of the fall in steps, >= 1.

    Raises:
        ValueError: stop_step below 1.

    Example:
        >>> [round(cosine(0.3, 0.0, 100)(step), 3) for step in (0, 50, 100, 200)]
        [0.3, 0.15, 0.0, 0.0]

    Source:
        Evci, Gale, Menick, Castro, Elsen. Rigging the Lottery. ICML 2020, arXiv:1911.11134.
    """
    _check_span(0, stop_step)
    return lambda step: end + (start - end) / 2 * (1 + math.cos(math.pi * _progress(step, 0, stop_step)))


def cubic(start: float, end: float, *, start_step: int, stop_step: int) -> Schedule:
    """Move from `start` to `end` fast at first and slowly at last.

    value(t) = end + (start - end) * (1 - (t - start_step) / (stop_step - start_step))^3

    Args:
        start: value up to `start_step`.
        end: value from `stop_step` on.
        start_step: first step of the move, >= 0.
        stop_step: last step of the move, > start_step.

    Raises:
        ValueError: the span is empty.

    Example:
        >>> schedule = cubic(0.0, 0.9, start_step=0, stop_step=100)
        >>> [round(schedule(step), 4) for step in (0, 25, 50, 75, 100)]
        [0.0, 0.5203, 0.7875, 0.8859, 0.9]

    Source:
        Zhu, Gupta. To prune, or not to prune. 2017, arXiv:1710.01878.
    """
    _check_span(start_step, stop_step)
    return lambda step: end + (start - end) * (1 - _progress(step, start_step, stop_step)) ** 3


def _check_span(start_step: int, stop_step: int) -> None:
    if not 0 <= start_step < stop_step:
        raise ValueError(f"a schedule needs 0 <= start_step < stop_step, got {start_step} and {stop_step}")


def _progress(step: int, start_step: int, stop_step: int) -> float:
    return min(1.0, max(0.0, (step - start_step) / (stop_step - start_step)))
