"""gossamer bench: a linear layer in every storage against dense, on this machine."""

import json
import sys
import time
from collections.abc import Callable
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn

from gossamer import formats, patterns
from gossamer.acceleration.timing import interleaved
from gossamer.cli import options as o
from gossamer.cli.progress import waiting
from gossamer.cli.run import set_threads
from gossamer.cli.tables import say, show_table, size_text
from gossamer.counts import check_positive, check_sparsity, num_active
from gossamer.machine import describe_machine
from gossamer.nn import SparseLinear

# Each storage is measured with weights at places of the structure that it is made for.
_PATTERNS: dict[str, patterns.Pattern] = {
    "csr": patterns.unstructured(),
    "lean_csr": patterns.unstructured(),
    "block": patterns.block(8, 8),
    "constant_fan_in": patterns.constant_fan_in(),
    "compact": patterns.row(),
}
_WORDS = {
    "csr": "anywhere",
    "lean_csr": "anywhere",
    "block": "in blocks of 8 x 8",
    "constant_fan_in": "as many for each output",
    "compact": "whole outputs",
}


def bench(
    shape: Annotated[str, typer.Option(help="outputs x inputs of the layer")] = "1000x1000",
    batch: Annotated[int, typer.Option(help="samples of a forward pass")] = 128,
    sparsity: Annotated[str, typer.Option(help="fractions of the weights that do not exist")] = "0.8,0.9,0.95,0.99",
    seconds: Annotated[float, typer.Option(help="about how long to measure each sparsity")] = 2.0,
    threads: o.Threads = 0,
    as_json: o.Json = False,
) -> None:
    """Time a linear layer in every storage against dense: forward, and forward with backward where it can train."""
    outputs, inputs = _shape(shape)
    check_positive(batch, name="--batch")
    if not 0 < seconds < float("inf"):
        raise ValueError(f"--seconds must be above 0, got {seconds}")
    sparsities = _sparsities(sparsity)
    set_threads(threads)
    with waiting("measuring", visible=not as_json):
        rows = [
            row for each in sparsities for row in _measured((outputs, inputs), batch, each, seconds / len(_PATTERNS))
        ]
    if as_json:
        fields = {"shape": [outputs, inputs], "batch": batch, "machine": describe_machine(), "rows": rows}
        sys.stdout.write(json.dumps(fields, indent=2, allow_nan=False) + "\n")
        return
    machine = describe_machine()
    say(f"linear layer, {outputs} x {inputs}, batch {batch}; {machine['machine']}, {machine['threads']} threads")
    _show(rows)


def _measured(shape: tuple[int, int], batch: int, sparsity: float, seconds: float) -> list[dict[str, Any]]:
    """A row for each storage, each against dense in the same run."""
    rows = []
    for name, pattern in _PATTERNS.items():
        layer = _layer(shape, sparsity, pattern)
        held = formats.LINEAR[name](layer)
        dense = layer.to_dense()
        row: dict[str, Any] = {"format": name, "sparsity": layer.sparsity, "dense_bytes": formats.held_bytes(dense)}
        if held is None:
            rows.append(
                {**row, "bytes": None, "dense_ms": None, "ms": None, "training_dense_ms": None, "training_ms": None}
            )
            continue
        times = _times(dense, held, batch, _forward, seconds / 2)
        row |= {"bytes": formats.held_bytes(held), "dense_ms": times["dense"], "ms": times["held"]}
        trains = isinstance(held, SparseLinear)
        step = _times(dense, held, batch, _both_ways, seconds / 2) if trains else {}
        rows.append({**row, "training_dense_ms": step.get("dense"), "training_ms": step.get("held")})
    return rows


def _layer(shape: tuple[int, int], sparsity: float, pattern: patterns.Pattern) -> SparseLinear:
    generator = torch.Generator().manual_seed(0)
    count = pattern.nearest(shape, num_active(shape[0] * shape[1], sparsity))
    mask = pattern.keep(torch.rand(shape, generator=generator, device="cpu"), count)
    linear = nn.Linear(shape[1], shape[0])
    with torch.no_grad():
        linear.weight.copy_(torch.randn(shape, generator=generator, device="cpu") * mask)
    return SparseLinear.from_dense(linear, mask=mask)


def _times(
    dense: nn.Module, held: nn.Module, batch: int, run: Callable[[nn.Module, Tensor], object], seconds: float
) -> dict[str, float]:
    # As a layer finds it behind one of its own kind: dense layers write samples one by one, ours features.
    sample = torch.randn(batch, int(dense.in_features), generator=torch.Generator().manual_seed(1))  # type: ignore[arg-type]
    rows, columns = sample.clone(), sample.t().contiguous().t()
    contenders = {"dense": lambda: run(dense, rows), "held": lambda: run(held, columns)}
    # One thread's own time is that of a machine without other work; with several only the clock on the wall tells.
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    return interleaved(contenders, seconds=seconds, keep="dense", device=torch.device("cpu"), clock=clock)


def _forward(layer: nn.Module, inputs: Tensor) -> None:
    with torch.no_grad():
        layer(inputs)


def _both_ways(layer: nn.Module, inputs: Tensor) -> None:
    """Forward and backward of a hidden layer, whose inputs have a gradient too."""
    outputs = layer(inputs.detach().requires_grad_())
    layer.zero_grad()
    outputs.backward(torch.ones_like(outputs))


def _shape(text: str) -> tuple[int, int]:
    sizes = text.split("x")
    if len(sizes) != 2 or not all(size.isdecimal() and int(size) for size in sizes):
        raise ValueError(f"--shape {text} is no shape of a weight; give outputs x inputs, such as 1000x1000")
    return int(sizes[0]), int(sizes[1])


def _sparsities(text: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--sparsity {text} is no list of numbers; give such as 0.8,0.9,0.95") from None
    for value in values:
        check_sparsity(value)
    return values


def _show(rows: list[dict[str, Any]]) -> None:
    columns = {
        "sparsity": [f"{100 * row['sparsity']:.1f} %" for row in rows],
        "dense": [_ms(row["dense_ms"]) for row in rows],
        "forward": [_against(row["ms"], row["dense_ms"]) for row in rows],
        "dense trains": [_ms(row["training_dense_ms"]) for row in rows],
        "training": [_against(row["training_ms"], row["training_dense_ms"]) for row in rows],
        "bytes": [
            f"{size_text(row['bytes'])} of {size_text(row['dense_bytes'])}" if row["bytes"] else "more than dense"
            for row in rows
        ],
    }
    show_table("storage", [row["format"] for row in rows], columns)
    say(f"places of the weights: {'; '.join(f'{name} {words}' for name, words in _WORDS.items())}")
    say("2.0x: twice as fast as dense. training: forward and backward")


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g} ms"


def _against(value: float | None, dense: float | None) -> str:
    return "-" if value is None or dense is None else f"{_ms(value)} {dense / value:.1f}x"
