"""How a model calls its layers: the inputs that each one gets, in shape and in memory."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
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
    if isinstance(example, tuple):
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


def stand_ins(calls: Calls, device: torch.device) -> list[tuple[Tensor, int]]:
    """Return for each call a normal input of its shape and strides, the same every time, and how often it comes.

    Args:
        calls: of one layer.
        device: where it lies.
    """
    generator = torch.Generator().manual_seed(0)
    inputs = []
    for call, times in calls.items():
        values = torch.randn(call.shape, generator=generator).to(call.dtype)
        # A broadcast input has one place for many entries, and filling it in one go is refused.
        spread = 0 in call.stride and values.numel() > 1
        tensor = torch.empty_strided(call.shape, _apart(call) if spread else call.stride, dtype=call.dtype)
        inputs.append((tensor.copy_(values).to(device), times))
    return inputs


def _apart(call: Call) -> tuple[int, ...]:
    return torch.empty(call.shape).stride()


def agree(found: Any, expected: Any, *, roundings: float) -> bool:
    """Return whether outputs are equal but for rounding: every tensor in them, relative to its largest number.

    Args:
        found: any nesting of tensors.
        expected: the same nesting.
        roundings: what they may differ by, in units of the last place of the largest.
    """
    mine, theirs = _tensors(found), _tensors(expected)
    return len(mine) == len(theirs) and all(
        _agrees(*pair, roundings=roundings) for pair in zip(mine, theirs, strict=True)
    )


def _tensors(outputs: Any) -> list[Tensor]:
    leaves: Iterable[Any] = tree_leaves(outputs)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def _agrees(found: Tensor, expected: Tensor, *, roundings: float) -> bool:
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    if not expected.is_floating_point():
        # Indices of the largest may differ where two are equal but for rounding; the scores are looked at.
        return True
    if not torch.equal(found.isfinite(), expected.isfinite()):
        return False
    there = expected.isfinite()
    difference, scale = (found - expected)[there].abs(), expected[there].abs()
    tolerance = roundings * torch.finfo(expected.dtype).eps
    return not difference.numel() or float(difference.max()) <= tolerance * max(float(scale.max()), 1e-30)
