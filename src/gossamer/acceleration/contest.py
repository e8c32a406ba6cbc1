"""One layer in every storage that can hold it: who computes the same, and who is fastest."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gossamer import formats
from gossamer.acceleration.calls import agree, difference, stand_ins
from gossamer.acceleration.subjects import Subject
from gossamer.acceleration.timing import interleaved

# How much faster than the layer given another must be: less than that is noise, or gone in the next run.
_MARGIN = 0.05
# What sums in another order may differ by, in units of the last place of the largest result.
_ROUNDINGS = 500.0


class Verdict(NamedTuple):
    """What became of a layer.

    Attributes:
        chosen: name of the storage.
        times_ms: milliseconds of all calls in a forward pass, by storage.
        reason: why it stays as it was given; empty where it does not.
    """

    chosen: str
    times_ms: dict[str, float]
    reason: str

    def saved_ms(self, given: str) -> float:
        """Return how much faster than as it was given."""
        return self.times_ms[given] - self.times_ms[self.chosen]


class Rival(NamedTuple):
    """A layer in another storage.

    Attributes:
        layer: that computes what the layer given computes.
        rounds: whether its weight was rounded.
        difference: where it was: the largest of its outputs' differences, as a fraction of the largest output.
    """

    layer: nn.Module
    rounds: bool = False
    difference: float = 0.0


def rivals(subject: Subject, allowed: Mapping[str, formats.Hold] | None, *, tolerance: float) -> dict[str, Rival]:
    """Return the other storages that can hold a layer and compute what it computes, by name.

    Args:
        subject: a layer that is open to a change.
        allowed: formats to try; None: those of its kind.
        tolerance: difference that is accepted of those that round, as a fraction of the largest output.
    """
    inputs = [tensor for tensor, _ in stand_ins(subject.calls, _device(subject))[0]]
    rounding = tuple(formats.ROUNDED.values())
    found = {}
    with torch.no_grad():
        expected = [subject.layer(tensor) for tensor in inputs]
        for name, hold in (subject.kind.formats if allowed is None else allowed).items():
            other = None if name == subject.given else hold(subject.sparse)
            if other is None:
                continue
            outputs, rounds = [other(tensor) for tensor in inputs], hold in rounding
            if agree(outputs, expected, roundings=_ROUNDINGS, tolerance=tolerance if rounds else 0.0):
                largest = max(map(difference, outputs, expected), default=0.0) if rounds else 0.0
                found[name] = Rival(other, rounds, largest)
    return found


def judge(subject: Subject, others: Mapping[str, Rival], *, seconds: float) -> Verdict:
    """Time a layer against its rivals and choose.

    Args:
        subject: the layer.
        others: what `rivals` returned.
        seconds: about how long to time.
    """
    if not others:
        return Verdict(subject.given, {}, "nothing holds it in less memory than dense and computes the same")
    inputs, factor = stand_ins(subject.calls, _device(subject))
    every = [tensor for tensor, times in inputs for _ in range(times)]
    layers = {subject.given: subject.layer} | {name: other.layer for name, other in others.items()}
    contenders = {name: _pass(layer, every) for name, layer in layers.items()}
    with torch.no_grad():
        measured = interleaved(contenders, seconds=seconds, keep=subject.given, device=_device(subject))
    times = {name: factor * time for name, time in measured.items()}
    best = min(others, key=lambda name: times[name])
    if times[best] <= (1 - _MARGIN) * times[subject.given]:
        return Verdict(best, times, "")
    return Verdict(subject.given, times, _why(subject.given, best, times))


def _why(given: str, best: str, times: Mapping[str, float]) -> str:
    mine, theirs = f"{times[given]:.3g} ms", f"{times[best]:.3g}"
    if times[best] > times[given]:
        return f"{given} is faster: {mine} against {theirs} as {best}"
    return f"{best} is not {100 * _MARGIN:.0f} % faster: {theirs} ms against {mine}"


def _pass(layer: nn.Module, inputs: Sequence[Tensor]) -> Callable[[], object]:
    def run() -> None:
        for tensor in inputs:
            layer(tensor)

    return run


def _device(subject: Subject) -> torch.device:
    return next(subject.layer.parameters()).device
