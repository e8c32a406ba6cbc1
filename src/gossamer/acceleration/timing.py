"""Times of things that do the same, taken in turns: what slows the machine for a while slows all alike."""

import statistics
import time
from collections.abc import Callable, Mapping

import torch

_MOST_ROUNDS = 40
_FEWEST_ROUNDS = 5
# One sample takes about so long, at most so many calls: a clock is read at its ends only.
_SAMPLE_SECONDS = 5e-4
_MOST_CALLS = 10
# Whoever is so many times slower than the fastest after warming up is not timed on.
_HOPELESS = 4.0


def interleaved(
    contenders: Mapping[str, Callable[[], object]],
    *,
    seconds: float,
    keep: str,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Time contenders in turns.

    Args:
        contenders: by name; each is called a few times first, which compiles what needs to be.
        seconds: about how long to go on, at least for five rounds and at most for forty.
        keep: the contender that is timed in every round, however slow it is.
        device: where they run; others than the CPU are waited for.
        clock: seconds since some moment.

    Returns:
        Median milliseconds of a call, by name.
    """
    first = {name: _warmed(run, device, clock) for name, run in contenders.items()}
    fastest = min(first.values())
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    calls = {name: min(_MOST_CALLS, max(1, round(_SAMPLE_SECONDS / max(first[name], 1e-9)))) for name in contenders}
    running = [name for name in contenders if name == keep or first[name] <= _HOPELESS * fastest]
    end = time.perf_counter() + seconds
    for number in range(_MOST_ROUNDS):
        if number >= _FEWEST_ROUNDS and time.perf_counter() > end:
            break
        # Forwards and backwards, so that nobody always follows the same one and finds its caches.
        for name in running if number % 2 else reversed(running):
            contenders[name]()
            samples[name].append(_seconds(contenders[name], calls[name], device, clock))
    return {name: 1e3 * (statistics.median(samples[name]) if samples[name] else first[name]) for name in contenders}


def _warmed(run: Callable[[], object], device: torch.device, clock: Callable[[], float]) -> float:
    """Seconds of the faster of two calls after a first one."""
    run()
    return min(_seconds(run, 1, device, clock) for _ in range(2))


def _seconds(run: Callable[[], object], calls: int, device: torch.device, clock: Callable[[], float]) -> float:
    _wait(device)
    start = clock()
    for _ in range(calls):
        run()
    _wait(device)
    return (clock() - start) / calls


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
