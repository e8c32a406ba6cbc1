"""The run's diary: one JSON object a line in metrics.jsonl, and what is written there about layers."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer.nn import SparseLinear

METRICS = "metrics.jsonl"


class Diary:
    """Append events to metrics.jsonl; a line is there whole or not at all.

    Args:
        folder: of the run.
        size: bytes to keep of an older file: what came after the checkpoint happens again.
    """

    def __init__(self, folder: Path, *, size: int = 0) -> None:
        self._path = folder / METRICS
        self._path.touch()
        os.truncate(self._path, size)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._path.stat().st_size

    def write(self, event: str, fields: Mapping[str, Any]) -> None:
        """Append one event.

        Raises:
            OSError: it could not be written; no part of it is left in the file.
        """
        before = self.size
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"event": event, **fields}) + "\n")
        except OSError:
            os.truncate(self._path, before)
            raise


def describe_layers(model: nn.Module) -> list[dict[str, Any]]:
    """Return name, shape, active weights, bytes and degrees of each linear or convolution layer, in order."""
    layers = []
    for name, module in model.named_modules():
        if isinstance(module, SparseLinear):
            places = module.topology
            in_degrees, out_degrees = places.row_pointers.diff(), module.column_pointers.diff()
        elif isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            active = (module.weight.detach() != 0).flatten(1)
            in_degrees, out_degrees = active.sum(1), active.sum(0)
        else:
            continue
        shape = _shape(module)
        layers.append(
            {
                "name": name,
                "shape": shape,
                "num_active": int(in_degrees.sum()),
                "bytes": stored_bytes(module),
                "in_degrees": _histogram(in_degrees),
                "out_degrees": _histogram(out_degrees),
            }
        )
    return layers


def stored_bytes(module: nn.Module) -> int:
    """Return the bytes of a module's state_dict: what saving it costs."""
    return sum(tensor.nbytes for tensor in module.state_dict().values() if isinstance(tensor, Tensor))


def training_bytes(model: nn.Module, optimizer: Optimizer, masks: Sequence[Tensor]) -> int:
    """Return the bytes that training holds: parameters, gradients, buffers, optimizer state and masks."""
    tensors: list[Tensor] = [*model.buffers(), *masks]
    for parameter in model.parameters():
        tensors += [parameter, parameter]  # the gradient is as large
        tensors += [value for value in optimizer.state.get(parameter, {}).values() if isinstance(value, Tensor)]
    return sum(tensor.nbytes for tensor in tensors)


def _shape(module: nn.Module) -> list[int]:
    if isinstance(module, SparseLinear):
        return list(module.topology.shape)
    return list(module.get_parameter("weight").shape)


def _histogram(degrees: Tensor) -> list[list[int]]:
    values, numbers = torch.unique(degrees, return_counts=True)
    return [[int(value), int(number)] for value, number in zip(values, numbers, strict=True)]
