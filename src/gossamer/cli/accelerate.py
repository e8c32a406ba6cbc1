"""gossamer accelerate: the fastest storage of each layer of a model, measured on this machine."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn

from gossamer import acceleration, data, pruning, training
from gossamer.acceleration import Accelerated
from gossamer.cli import options as o
from gossamer.cli.folder import model_of
from gossamer.cli.progress import nothing_written, waiting
from gossamer.cli.run import prints_to_stderr, set_threads
from gossamer.cli.tables import say, show_table, size_text
from gossamer.cli.target import check_target, write_model
from gossamer.counts import check_positive
from gossamer.data import Dataset
from gossamer.nn import SparseLinear


def accelerate(
    checkpoint: Annotated[
        Path, typer.Argument(help="a trained model: .pt, .pth, .safetensors, or the folder of a run")
    ],
    model: Annotated[
        str, typer.Option(help="package.module:function that builds it, or mlp:1000x3 (with --data); no default")
    ],
    batch: Annotated[int, typer.Option(help="samples of a forward pass: what is fastest depends on it")] = 1,
    shape: Annotated[
        str,
        typer.Option(
            "--input", help="shape of one sample, such as 3x32x32; default: that of --data, or the first layer's"
        ),
    ] = "",
    data_name: Annotated[str, typer.Option("--data", help="data whose rows are the input: as of gossamer train")] = "",
    data_dir: o.DataDir = "",
    seconds: Annotated[float, typer.Option(help="about how long to measure")] = 10.0,
    cache: Annotated[bool, typer.Option(help="whether to use, and keep, what was measured before")] = True,
    out: Annotated[
        Path | None, typer.Option(help=".safetensors file for the model with the layers truly sparse that gain by it")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace that file")] = False,
    threads: o.Threads = 0,
    as_json: o.Json = False,
) -> None:
    """Time each layer of a model in every storage, and the whole with the fastest of each; never take a slower one."""
    checkpoint = model_of(checkpoint) if checkpoint.is_dir() else checkpoint
    if out is not None:
        check_target(out, [checkpoint], overwrite=overwrite)
    check_positive(batch, name="--batch")
    set_threads(threads)
    with nothing_written(), prints_to_stderr(as_json):
        dataset = data.load(data_name, data_dir=Path(data_dir) if data_dir else None) if data_name else None
        trained = pruning.restore(checkpoint, training.build_model(model, dataset, seed=0)).eval()
        example = _example(trained, batch, shape, dataset)
        with waiting("measuring", visible=not as_json):
            fast, table = acceleration.accelerate(trained, example, cache=cache, seconds=seconds)
    if out is not None and table.is_faster:
        write_model(fast, out, {"accelerated": f"batch {batch}"})
    if as_json:
        fields = {**asdict(table), "batch": batch, "path": str(out) if out and table.is_faster else None}
        sys.stdout.write(json.dumps(fields, indent=2, allow_nan=False) + "\n")
        return
    _show(table, f"{checkpoint.name}, batch {batch}", out)


def _example(model: nn.Module, batch: int, shape: str, dataset: Dataset | None) -> Tensor:
    if dataset is not None and not shape:
        rows = torch.arange(batch) % len(dataset.train_inputs)
        return dataset.train_inputs[rows]
    if shape:
        sizes = shape.split("x")
        if not all(size.isdecimal() and int(size) for size in sizes):
            raise ValueError(f"--input {shape} is no shape; give the sizes of one sample, such as 784 or 3x32x32")
        return torch.randn(batch, *map(int, sizes), generator=torch.Generator().manual_seed(0))
    first = next(
        (module for module in model.modules() if next(module.parameters(recurse=False), None) is not None), None
    )
    if not isinstance(first, (nn.Linear, SparseLinear)):
        raise ValueError(f"the first layer is a {type(first).__name__}; give --input, such as 3x32x32, or --data")
    return torch.randn(batch, first.in_features, generator=torch.Generator().manual_seed(0))


def _show(table: Accelerated, title: str, out: Path | None) -> None:
    say(f"{title}{': measured before' if table.from_cache else ''}")
    columns: dict[str, list[str]] = {
        "sparsity": [f"{100 * row.sparsity:.1f} %" for row in table.layers],
        "dense ms": [_ms(row.dense_ms) for row in table.layers],
        "chosen": [row.chosen for row in table.layers],
        "ms": [_ms(row.ms) for row in table.layers],
        "bytes": [size_text(row.bytes) for row in table.layers],
        "left as it was": [row.reason for row in table.layers],
    }
    if table.layers:
        show_table(
            "layer", [row.layer or "(the model)" for row in table.layers], columns, words=["chosen", "left as it was"]
        )
    if table.is_faster and table.ms and table.given_ms:
        times = (
            f"{_ms(table.given_ms)} ms as given, {_ms(table.ms)} ms now: {table.given_ms / table.ms:.2f} times as fast"
        )
        say(f"the model: {times}; {size_text(table.given_bytes)} and {size_text(table.bytes)} of memory")
    if table.note:
        say(table.note)
    if out is not None:
        say(f"model  {out}" if table.is_faster else "nothing was written: nothing is faster")


def _ms(value: Any) -> str:
    return "-" if value is None else f"{value:.3g}"
