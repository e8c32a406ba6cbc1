"""The model given against the one with changed layers: what is not faster as a whole is taken back."""

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from gossamer.acceleration.calls import agree, forward, run
from gossamer.acceleration.timing import interleaved

# How much faster the whole model must be, at most; where its layers save little of its time: half of what they save.
_MARGIN = 0.02
# What layers behind may make of different roundings, in units of the last place of the largest output.
_ROUNDINGS = 1e4
_TRIES = 4


class Settled(NamedTuple):
    """Which layers change, and the times of the model.

    Attributes:
        names: of the layers that change.
        given_ms: of the model given, when it was last compared; None if it never was.
        ms: of the model with the changed layers; None likewise.
        note: why no layer changes; empty where any does.
    """

    names: tuple[str, ...]
    given_ms: float | None
    ms: float | None
    note: str


def copied(model: nn.Module, layers: Mapping[str, nn.Module], *, sharing: bool) -> nn.Module:
    """Return a copy of a model with some layers replaced.

    Args:
        model: left as it is.
        layers: what stands in place of the layers of these names.
        sharing: whether the copy has the very parameters of the model, as one for measuring may.
    """
    modules = dict(model.named_modules())
    memo: dict[int, Any] = {id(modules[name]): layer for name, layer in layers.items()}
    if sharing:
        memo |= {id(parameter): parameter for parameter in model.parameters()}
    result: nn.Module = copy.deepcopy(model, memo)
    return result


def settle(
    model: nn.Module,
    layers: Mapping[str, nn.Module],
    savings: Mapping[str, float],
    example: Any,
    *,
    seconds: float,
    tolerance: float,
) -> Settled:
    """Find layers to change that make the whole model faster: all, or the half that saves most, and so on.

    Args:
        model: the model given.
        layers: what would stand in place of the layers of these names.
        savings: milliseconds that each saves alone.
        example: input of the model.
        seconds: about how long to time.
        tolerance: what outputs may differ by beside rounding of sums, as a fraction of the largest.
    """
    reference = copied(model, {}, sharing=True).eval()
    expected = run(reference, example)
    names = sorted(layers, key=lambda name: -savings[name])
    note, times = "no other storage of any layer is faster", None
    for _ in range(_TRIES):
        if not names:
            break
        trial = copied(model, {name: layers[name] for name in names}, sharing=True).eval()
        if note := fault(trial, example, expected, tolerance=tolerance):
            names = names[: len(names) // 2]
            continue
        times = _times(reference, trial, example, seconds=seconds / _TRIES)
        saved = sum(savings[name] for name in names) / times["given"]
        if times["result"] <= (1 - min(_MARGIN, saved / 2)) * times["given"]:
            return Settled(tuple(names), times["given"], times["result"], "")
        note = f"the whole model is not faster: {times['result']:.3g} ms against {times['given']:.3g} as it was given"
        names = names[: len(names) // 2]
    given = None if times is None else times["given"]
    return Settled((), given, given, f"left as it was: {note}")


def fault(trial: nn.Module, example: Any, expected: Any, *, tolerance: float) -> str:
    """Say what is wrong with a model's outputs, or nothing.

    Args:
        trial: a model with changed layers.
        example: its input.
        expected: outputs of the model given.
        tolerance: what outputs may differ by beside rounding of sums, as a fraction of the largest.
    """
    try:
        found = run(trial, example)
    except Exception as error:
        # A model may ask a layer for its weight, which another storage does not have.
        return f"it fails with changed layers ({type(error).__name__}: {str(error)[:200]})"
    same = agree(found, expected, roundings=_ROUNDINGS, tolerance=tolerance)
    return "" if same else "its outputs with changed layers are others"


def _times(reference: nn.Module, trial: nn.Module, example: Any, *, seconds: float) -> dict[str, float]:
    tensors = (*reference.parameters(), *reference.buffers())
    device = next((tensor.device for tensor in tensors if tensor.device.type != "cpu"), torch.device("cpu"))
    contenders = {"given": lambda: forward(reference, example), "result": lambda: forward(trial, example)}
    with torch.no_grad():
        return interleaved(contenders, seconds=seconds, keep="given", device=device)
