"""Functions of the step that return a float."""

import math
from collections.abc import Callable, Sequence

from gossamer.counts import check_fraction, check_positive, check_sparsity

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


def linear(start: float, end: float, *, start_step: int, stop_step: int) -> Schedule:
    """Move from `start` to `end` by the same difference at each step.

    value(t) = start + (end - start) * (t - start_step) / (stop_step - start_step)

    Args:
        start: value up to `start_step`.
        end: value from `stop_step` on.
        start_step: first step of the move, >= 0.
        stop_step: last step of the move, > start_step.

    Raises:
        ValueError: the span is empty.

    Example:
        >>> [linear(0.0, 0.8, start_step=10, stop_step=20)(step) for step in (0, 10, 15, 20, 30)]
        [0.0, 0.0, 0.4, 0.8, 0.8]

    Source:
        Zhu, Gupta. To prune, or not to prune. 2017, arXiv:1710.01878; the exponent 1 of their family.
    """
    _check_span(start_step, stop_step)
    return _between(start, end, start_step, stop_step, lambda progress: start + (end - start) * progress)


def exponential(start: float, end: float, *, start_step: int, stop_step: int) -> Schedule:
    """Raise a sparsity from `start` to `end` so that the density falls by the same factor at each step.

    1 - value(t) = (1 - start)^(1 - p) * (1 - end)^p, p = (t - start_step) / (stop_step - start_step)

    From start 0 over K steps the density after i of them is (1 - end)^(i / K), as in the rounds of SynFlow.

    Args:
        start: sparsity up to `start_step`, in [0, 1).
        end: sparsity from `stop_step` on, in [0, 1).
        start_step: first step of the move, >= 0.
        stop_step: last step of the move, > start_step.

    Raises:
        ValueError: a sparsity outside [0, 1), or the span is empty.

    Example:
        >>> schedule = exponential(0.0, 0.99, start_step=0, stop_step=100)
        >>> [round(schedule(step), 4) for step in (0, 25, 50, 75, 100)]
        [0.0, 0.6838, 0.9, 0.9684, 0.99]

    Source:
        Tanaka, Kunin, Yamins, Ganguli. Pruning neural networks without any data by iteratively conserving synaptic
        flow. NeurIPS 2020, arXiv:2006.05467.
    """
    _check_span(start_step, stop_step)
    first, last = math.log1p(-check_sparsity(start)), math.log1p(-check_sparsity(end))
    return _between(start, end, start_step, stop_step, lambda progress: -math.expm1(first + (last - first) * progress))


def iterative(drop_fraction: float, *, update_every: int, start_step: int, stop_step: int) -> Schedule:
    """Remove the same fraction of the surviving weights in each round: the sparsity after all rounds so far.

    value = 1 - (1 - drop_fraction)^r after r rounds, at start_step, start_step + update_every, ... up to stop_step

    Args:
        drop_fraction: fraction of the survivors that a round removes, in [0, 1]; 0.2 in the paper.
        update_every: steps from one round to the next, >= 1.
        start_step: step of the first round, >= 0; the sparsity is 0 before.
        stop_step: no round comes after this step, >= start_step.

    Raises:
        ValueError: a fraction outside [0, 1], a period below 1, or stop_step before start_step.

    Example:
        >>> schedule = iterative(0.2, update_every=100, start_step=100, stop_step=300)
        >>> [round(schedule(step), 4) for step in (99, 100, 199, 200, 300, 1000)]
        [0.0, 0.2, 0.2, 0.36, 0.488, 0.488]

    Source:
        Frankle, Carbin. The Lottery Ticket Hypothesis. ICLR 2019, arXiv:1803.03635.
    """
    check_fraction(drop_fraction, name="drop_fraction")
    check_positive(update_every, name="update_every")
    if not 0 <= start_step <= stop_step:
        raise ValueError(f"rounds need 0 <= start_step <= stop_step, got {start_step} and {stop_step}")

    def sparsity(step: int) -> float:
        rounds = (min(step, stop_step) - start_step) // update_every + 1 if step >= start_step else 0
        # After many rounds the difference to 1 is rounded away, but a sparsity stays below 1.
        return min(_LARGEST, 1.0 - (1.0 - drop_fraction) ** rounds)

    return sparsity


def one_shot(sparsity: float, *, step: int) -> Schedule:
    """Return the schedule that is 0 before a step and `sparsity` from it on.

    Args:
        sparsity: value from `step` on, in [0, 1).
        step: when to prune, >= 0.

    Raises:
        ValueError: sparsity outside [0, 1), or a negative step.

    Example:
        >>> [one_shot(0.9, step=100)(step) for step in (0, 99, 100, 101)]
        [0.0, 0.0, 0.9, 0.9]

    Source:
        LeCun, Denker, Solla. Optimal Brain Damage. NIPS 1989: train, remove, train on.
    """
    check_sparsity(sparsity)
    if step < 0:
        raise ValueError(f"step must be 0 or more, got {step}")
    at = step
    return lambda step: sparsity if step >= at else 0.0


def rewound(schedule: Schedule, *, stop_step: int, num_steps: int) -> Schedule:
    """Replay the last steps of a schedule, such as that of the learning rate, while the pruned network is retrained.

    value(t) = schedule(stop_step - num_steps + t), and from t = num_steps on that of the last step

    Args:
        schedule: of the training before.
        stop_step: how many steps that took, >= 1.
        num_steps: how many of them to replay, in [1, stop_step].

    Raises:
        ValueError: more steps than there were, or none.

    Example:
        >>> again = rewound(lambda step: 1.0 - step / 10, stop_step=10, num_steps=3)
        >>> [round(again(step), 1) for step in range(5)]
        [0.3, 0.2, 0.1, 0.1, 0.1]

    Source:
        Renda, Frankle, Carbin. Comparing rewinding and fine-tuning in neural network pruning. ICLR 2020,
        arXiv:2003.02389.
    """
    if not 1 <= num_steps <= stop_step:
        raise ValueError(f"num_steps must lie in [1, stop_step], got {num_steps} of {stop_step}")
    return lambda step: schedule(stop_step - num_steps + min(step, num_steps - 1))


def prechelt(generalization_loss: float, *, largest: float, alpha: float) -> float:
    """Return how much to prune: the more a network over-fits, the more. No schedule: it follows the loss, not the step.

    strength = largest * (1 - 1 / (1 + alpha * GL))

    Args:
        generalization_loss: GL, in percent, >= 0; see `generalization_loss`.
        largest: strength that is approached as GL grows, in [0, 1].
        alpha: how fast it is approached: half of it at GL = 1 / alpha; > 0.

    Returns:
        A fraction in [0, largest]; 0 while the validation loss is at its smallest.

    Raises:
        ValueError: a negative or infinite generalization loss, largest outside [0, 1], or alpha not positive.

    Example:
        >>> [prechelt(loss, largest=0.5, alpha=0.5) for loss in (0.0, 2.0, 6.0)]
        [0.0, 0.25, 0.375]

    Source:
        Prechelt. Connection pruning with static and adaptive pruning schedules. Neurocomputing 16, 1997.
        Differs: the result is a fraction of weights here; in the paper it sets a threshold on a test statistic of them.
    """
    check_fraction(largest, name="largest")
    if not 0 <= generalization_loss < math.inf:
        raise ValueError(
            f"generalization_loss must be 0 or more and finite, got {generalization_loss}; "
            "it is 100 (validation loss / smallest validation loss - 1)"
        )
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha must be a positive number, got {alpha}")
    return largest * (1.0 - 1.0 / (1.0 + alpha * generalization_loss))


def generalization_loss(validation_losses: Sequence[float]) -> float:
    """Return by how many percent the last validation loss lies above the smallest one so far.

    GL = 100 * (E_va / E_opt - 1)

    Args:
        validation_losses: one or more, in the order of time, each > 0.

    Raises:
        ValueError: no losses, or one that is not a positive number.

    Example:
        >>> generalization_loss([2.0, 1.0, 1.25])
        25.0

    Source:
        Prechelt. Early Stopping - But When? Neural Networks: Tricks of the Trade, 1998.
    """
    if not validation_losses or not all(0 < loss < math.inf for loss in validation_losses):
        raise ValueError(f"validation losses must be one or more positive numbers, got {list(validation_losses)}")
    return 100.0 * (validation_losses[-1] / min(validation_losses) - 1.0)


# The largest float below 1.
_LARGEST = math.nextafter(1.0, 0.0)


def _check_span(start_step: int, stop_step: int) -> None:
    if not 0 <= start_step < stop_step:
        raise ValueError(f"a schedule needs 0 <= start_step < stop_step, got {start_step} and {stop_step}")


def _progress(step: int, start_step: int, stop_step: int) -> float:
    return min(1.0, max(0.0, (step - start_step) / (stop_step - start_step)))


def _between(start: float, end: float, start_step: int, stop_step: int, value: Callable[[float], float]) -> Schedule:
    """The schedule of a value by progress, with exact ends that no rounding passes."""
    low, high = min(start, end), max(start, end)

    def schedule(step: int) -> float:
        if step <= start_step or step >= stop_step:
            return start if step <= start_step else end
        return min(high, max(low, value(_progress(step, start_step, stop_step))))

    return schedule
