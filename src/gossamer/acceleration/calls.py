"""How a model calls its layers: the inputs that each one gets, in shape and in memory."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_leaves


class Call(NamedTuple):
    """What a layer is called with.

    Attributes:
        shape: of the input.
        stride: of the input, which decides what has to be copied.
        dtype: of the input.
        by_name: whether it was given by the name of the argument, which differs from class to class.
    """

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    by_name: bool = False


Calls = Counter[Call]

# A layer that is called with a hundred shapes, as by a decoder, is timed with those that come most often.
_MOST_SHAPES = 8
_MOST_CALLS = 16


def run(model: nn.Module, example: Any) -> Any:
    """Call a model with an example, always with the same random numbers and without derivatives.

    Args:
        model: any.
        example: a tuple or a dict is taken apart into arguments.
    """
    devices = sorted({tensor.device.index or 0 for tensor in model.parameters() if tensor.device.type == "cuda"})
    with torch.no_grad(), torch.random.fork_rng(devices=devices):
        torch.manual_seed(0)
        return forward(model, example)


def forward(model: nn.Module, example: Any) -> Any:
    """Call a model with an example, a tuple or a dict taken apart into arguments."""
    if isinstance(example, tuple) and not isinstance(example, PackedSequence):
        return model(*example)
    return model(**example) if isinstance(example, Mapping) else model(example)


def watched(model: nn.Module, layers: Mapping[str, nn.Module], example: Any) -> tuple[Any, dict[str, Calls]]:
    """Run a model once and return its outputs and what each layer was called with.

    Args:
        model: any, in the mode in which it is to run.
        layers: those to watch, by name.
        example: as for `run`.

    Returns:
        Outputs; name -> call -> how often. A layer that is not called has no calls.
    """
    calls: dict[str, Calls] = {name: Counter() for name in layers}

    def watch(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            given = args[0] if args else next(iter(keywords.values()))
            calls[name][Call(tuple(given.shape), given.stride(), given.dtype, not args)] += 1

        return hook

    handles = [layer.register_forward_pre_hook(watch(name), with_kwargs=True) for name, layer in layers.items()]
    try:
        return run(model, example), calls
    finally:
        for handle in handles:
            handle.remove()


def stand_ins(calls: Calls, device: torch.device) -> tuple[list[tuple[Tensor, int]], float]:
    """Return normal inputs in place of those that a layer is called with, the same every time.

    Args:
        calls: of one layer.
        device: where they shall lie.

    Returns:
        Each input with how often to call with it: the shapes that come most often, in about their proportions. And how
        many times as many calls a forward pass makes.
    """
    generator = torch.Generator().manual_seed(0)
    common = calls.most_common(_MOST_SHAPES)
    least = min(times for _, times in common) if common else 1
    inputs = [(_stand_in(call, generator).to(device), min(_MOST_CALLS, round(times / least))) for call, times in common]
    return inputs, calls.total() / max(1, sum(times for _, times in inputs))


def _stand_in(call: Call, generator: torch.Generator) -> Tensor:
    values = torch.randn(call.shape, generator=generator, device="cpu").to(call.dtype)
    # A broadcast input has one place for many entries, which cannot be filled in one go.
    if 0 in call.stride:
        return values
    return values.new_empty_strided(call.shape, call.stride).copy_(values)


def agree(found: Any, expected: Any, *, roundings: float, tolerance: float = 0.0) -> bool:
    """Return whether outputs are equal but for rounding: every tensor in them, relative to its largest number.

    Args:
        found: any nesting of tensors.
        expected: the same nesting.
        roundings: what they may differ by, in units of the last place of the largest.
        tolerance: what they may differ by beside, as a fraction of the largest.
    """
    mine, theirs = _tensors(found), _tensors(expected)
    return len(mine) == len(theirs) and all(
        difference(one, other) <= roundings * _last_place(other) + tolerance
        for one, other in zip(mine, theirs, strict=True)
    )


def difference(found: Tensor, expected: Tensor) -> float:
    """Return how far numbers are from those expected at most, as a fraction of the largest; infinite for other kinds.

    Args:
        found: any tensor.
        expected: a tensor; with another shape or dtype, or where other entries are finite, nothing can be compared.
    """
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return math.inf
    if not expected.is_floating_point():
        # Indices of the largest may differ where two are equal but for rounding; the scores are looked at.
        return 0.0
    if not torch.equal(found.isfinite(), expected.isfinite()):
        return math.inf
    there = expected.isfinite()
    apart, scale = (found - expected)[there].abs(), expected[there].abs()
    return float(apart.max()) / max(float(scale.max()), 1e-30) if apart.numel() else 0.0


def _last_place(expected: Tensor) -> float:
    return torch.finfo(expected.dtype).eps if expected.is_floating_point() else 0.0


def _tensors(outputs: Any) -> list[Tensor]:
    leaves: Iterable[Any] = tree_leaves(outputs)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]
