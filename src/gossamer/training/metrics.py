"""The run's diary: one JSON object a line in metrics.jsonl, and what is written there about layers."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer.nn.counterparts import SPARSE_LAYERS, weight_shape

METRICS = "metrics.jsonl"


class Diary:
    """Append events to metrics.jsonl; a line is there whole or not at all.

    Args:
        folder: of the run.
        size: bytes to keep of an older file: what came after the checkpoint happens again.

    Raises:
        OSError: the file cannot be written.
        ValueError: the older file is shorter than that.
    """

    def __init__(self, folder: Path, *, size: int = 0) -> None:
        self._path = folder / METRICS
        self._path.touch()
        if self.size < size:
            raise ValueError(
                f"{self._path} has {self.size} bytes, at the checkpoint it had {size}; bring the file back, or delete "
                "the checkpoint beside it, then --resume begins this run anew"
            )
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
        except OSError as error:
            os.truncate(self._path, before)
            raise OSError(error.errno, error.strerror, str(self._path)) from error

    def sync(self) -> None:
        """Bring everything to the disk, as is due before a checkpoint that counts on it."""
        with self._path.open("rb") as file:
            os.fsync(file.fileno())


def last_event(folder: Path, name: str) -> dict[str, Any] | None:
    """Return the last whole event of a name in a folder's metrics.jsonl, or None.

    Args:
        folder: of the run; it may have been killed in the middle of a line.
        name: such as `end`.
    """
    path = folder / METRICS
    for line in reversed(path.read_bytes().splitlines()) if path.is_file() else []:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and event.get("event") == name:
            return event
    return None


def describe_layers(model: nn.Module) -> list[dict[str, Any]]:
    """Return name, shape, active weights, bytes and degrees of each linear, convolution and truly sparse layer."""
    layers = []
    for name, module in model.named_modules():
        if isinstance(module, SPARSE_LAYERS):
            places = module.topology
            in_degrees = places.row_pointers.diff()
            out_degrees = places.column_indices.bincount(minlength=places.shape[1])
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
    if isinstance(module, SPARSE_LAYERS):
        return list(weight_shape(module))
    # Not get_parameter: a reparametrized weight is none.
    weight: Tensor = module.weight  # type: ignore[assignment]
    return list(weight.shape)


def _histogram(degrees: Tensor) -> list[list[int]]:
    values, numbers = torch.unique(degrees, return_counts=True)
    return [[int(value), int(number)] for value, number in zip(values, numbers, strict=True)]
