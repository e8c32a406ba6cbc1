"""gossamer inspect: what a saved model consists of, layer by layer."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from gossamer import files
from gossamer.cli import options as o
from gossamer.cli.folder import model_of
from gossamer.cli.tables import say, show_table, size_text
from gossamer.counts import sparsity_of
from gossamer.files import SavedModel

_PARTS = ("values", "row_pointers", "column_indices", "column_pointers", "weight_shape", "size")


def inspect(
    path: Annotated[Path, typer.Argument(help="a model.safetensors, or the folder of a run")],
    as_json: o.Json = False,
) -> None:
    """Show each layer of a saved model: shape, active weights, sparsity, bytes and health."""
    path = model_of(path) if path.is_dir() else path
    saved = files.read(path)
    layers = describe(saved)
    if not layers:
        raise ValueError(f"{path} holds no weight matrix; give the model.safetensors of a run")
    if as_json:
        fields = {"layers": layers, "file_bytes": path.stat().st_size}
        sys.stdout.write(json.dumps(fields, indent=2, allow_nan=False) + "\n")
        return
    say(f"{path}, {size_text(path.stat().st_size)}")
    _show(layers)
    dense = sum(layer["dense_bytes"] for layer in layers)
    stored = sum(layer["bytes"] for layer in layers)
    smaller = f"{dense / stored:.1f} times smaller than" if stored < dense else "not smaller than"
    say(f"weights take {size_text(stored)}, {smaller} the dense {size_text(dense)}")


def describe(saved: SavedModel) -> list[dict[str, Any]]:
    """Return for each weight matrix its shape, counts, bytes and what is wrong with it.

    Args:
        saved: what `files.read` returned.
    """
    layers = []
    for name, shape in saved.sparse_layers.items():
        prefix = f"{name}." if name else ""
        places = files.topology_of(saved.tensors, name, shape)
        parts = [saved.tensors[prefix + part] for part in _PARTS if prefix + part in saved.tensors]
        fan_in = places.row_pointers.diff()
        fan_out = places.column_indices.bincount(minlength=places.shape[1])
        layers.append(_layer(prefix.rstrip("."), "truly sparse", list(shape), parts, parts[0], fan_in, fan_out))
    inside = tuple(f"{name}." if name else "" for name in saved.sparse_layers)
    for name, tensor in saved.tensors.items():
        if tensor.dim() >= 2 and not (inside and name.startswith(inside) and "" not in inside):
            active = (tensor != 0).flatten(1)
            kind = "dense" if bool(active.all()) else "dense with zeros"
            values = tensor[tensor != 0]
            layers.append(_layer(name, kind, list(tensor.shape), [tensor], values, active.sum(1), active.sum(0)))
    return layers


def _layer(
    name: str, kind: str, shape: list[int], parts: list[Tensor], values: Tensor, fan_in: Tensor, fan_out: Tensor
) -> dict[str, Any]:
    size, element_size = fan_in.numel() * fan_out.numel(), values.element_size()
    # Half, eighth and integer types lack some functions.
    values = values if values.is_complex() or values.dtype == torch.float64 else values.float()
    finite = values.isfinite()
    return {
        "name": name,
        "stored": kind,
        "shape": shape,
        "num_active": values.numel(),
        "sparsity": sparsity_of(values.numel(), size),
        "bytes": sum(part.nbytes for part in parts),
        "dense_bytes": size * element_size,
        "outputs_without_input": int((fan_in == 0).sum()),
        "inputs_without_reader": int((fan_out == 0).sum()),
        "num_not_finite": int((~finite).sum()),
        "largest": float(values[finite].abs().max()) if bool(finite.any()) else 0.0,
    }


def _show(layers: list[dict[str, Any]]) -> None:
    columns = {
        "stored": [layer["stored"] for layer in layers],
        "shape": [" x ".join(str(size) for size in layer["shape"]) for layer in layers],
        "active": [f"{layer['num_active']:,}" for layer in layers],
        "sparsity": [f"{100 * layer['sparsity']:.2f} %" for layer in layers],
        "bytes": [size_text(layer["bytes"]) for layer in layers],
        "health": [_health(layer) for layer in layers],
    }
    show_table("layer", [layer["name"] for layer in layers], columns, words=["stored", "health"])


def _health(layer: dict[str, Any]) -> str:
    faults = {
        "outputs_without_input": "outputs without input",
        "inputs_without_reader": "inputs not read",
        "num_not_finite": "weights NaN or infinite",
    }
    found = [f"{layer[key]} {text}" for key, text in faults.items() if layer[key]]
    return ", ".join(found) or "good"
