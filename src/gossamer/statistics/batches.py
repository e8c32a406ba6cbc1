"""Calibration data: batches that can be read more than once, checked where they are read."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Batch(NamedTuple):
    """One batch on the model's device.

    Attributes:
        inputs: what the model is called with.
        targets: what the loss compares with; None where the data has none.
    """

    inputs: Any
    targets: Any


def read(data: Iterable[Any], *, device: torch.device, labelled: bool) -> Iterator[Batch]:
    """Yield each batch of the data, moved to a device.

    Args:
        data: batches (inputs, targets), or inputs alone; a list or a DataLoader, so that it can be read again.
        device: of the model.
        labelled: whether targets are needed.

    Raises:
        TypeError: the data cannot be iterated.
        ValueError: there is no batch, or one without targets where they are needed.
    """
    try:
        batches = iter(data)
    except TypeError:
        raise TypeError(f"data must be an iterable of batches, got {type(data).__name__}; pass a DataLoader") from None
    found = False
    for batch in batches:
        found = True
        paired = isinstance(batch, (tuple, list)) and len(batch) == 2
        if labelled and not paired:
            raise ValueError(f"this needs batches of (inputs, targets), got {type(batch).__name__}; pass labelled data")
        inputs, targets = batch if paired else (batch, None)
        yield Batch(_moved(inputs, device), _moved(targets, device))
    if not found:
        raise ValueError("the data gave no batch: it is empty, or an iterator already read to its end; pass a list")


def device_of(model: nn.Module) -> torch.device:
    """Return where a model's parameters are; the CPU for one without any."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def call(model: Any, inputs: Any) -> Any:
    """Return the model's outputs: a tuple of inputs is several arguments, a dict is keywords."""
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)


def size(batch: Batch) -> int:
    """Return the number of samples in a batch.

    Raises:
        ValueError: the inputs hold no tensor.
    """
    for tensor in tensors(batch.inputs):
        return int(tensor.shape[0])
    raise ValueError(f"a batch must hold a tensor of samples, got {type(batch.inputs).__name__}")


def single(batch: Batch) -> Iterator[Batch]:
    """Yield each sample of a batch as a batch of one."""
    for index in range(size(batch)):
        yield Batch(_sliced(batch.inputs, index), _sliced(batch.targets, index))


def tensors(value: Any) -> Iterator[Tensor]:
    """Yield every tensor in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors(part)
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors(part)


def _moved(value: Any, device: torch.device) -> Any:
    return _mapped(value, lambda tensor: tensor.to(device))


def _sliced(value: Any, index: int) -> Any:
    return _mapped(value, lambda tensor: tensor[index : index + 1] if tensor.dim() else tensor)


def _mapped(value: Any, function: Any) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: _mapped(part, function) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        parts = [_mapped(part, function) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value
