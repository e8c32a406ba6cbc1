"""gossamer prune: a trained model, made sparse."""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import nn
from torch.nn.functional import cross_entropy

from gossamer import budgets, data, files, patterns, pruning, statistics, training
from gossamer.cli import options as o
from gossamer.cli.progress import waiting
from gossamer.cli.run import set_threads
from gossamer.cli.tables import say, show_table, size_text
from gossamer.counts import check_positive, sparsity_of
from gossamer.nn import SparseLinear, to_dense, to_sparse
from gossamer.weights import numel, prunable

_BUDGETS: dict[str, budgets.Budget] = {
    "uniform": budgets.uniform,
    "uniform_plus": budgets.uniform_plus,
    "global": budgets.global_,
    "er": budgets.er,
    "erk": budgets.erk,
    "lamp": budgets.lamp,
}
_BATCH = 100


def prune(
    checkpoint: Annotated[Path, typer.Argument(help="a trained model: .pt, .pth or .safetensors")],
    model: Annotated[
        str, typer.Option(help="package.module:function that builds it, or mlp:1000x3 (with --data); no default")
    ],
    method: Annotated[str, typer.Option(help="see: gossamer methods")] = "magnitude",
    sparsity: Annotated[float, typer.Option(help="fraction of the weights to remove, in [0, 1)")] = 0.9,
    budget: Annotated[
        str, typer.Option(help=f"how layers share what is kept: {', '.join(_BUDGETS)}; default: the method's own")
    ] = "",
    pattern: Annotated[
        str,
        typer.Option(help="unstructured, row, column, filters, kernels, constant_fan_in, nm:2:4, block:4x4"),
    ] = "",
    rounds: Annotated[int, typer.Option(help="how often to score and cut; 0: the method's own")] = 0,
    probes: Annotated[
        int, typer.Option(help="random vectors by which obd measures curvature: more are slower and surer; 0: 128")
    ] = 0,
    include: Annotated[list[str] | None, typer.Option(help="only weights whose name matches; may be repeated")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="not weights whose name matches; may be repeated")] = None,
    data_name: Annotated[
        str, typer.Option("--data", help="calibration and test data: as of gossamer train; needed by many methods")
    ] = "",
    data_dir: o.DataDir = "",
    samples: Annotated[int, typer.Option(help="training rows that the method looks at")] = 1000,
    first: Annotated[Path | None, typer.Option(help="an earlier checkpoint, for methods that compare")] = None,
    seed: o.Seed = 0,
    out: Annotated[Path | None, typer.Option(help="file to write; default: beside the checkpoint")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace that file")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="show the plan, layer by layer, and write nothing")
    ] = False,
    threads: o.Threads = 0,
    as_json: o.Json = False,
) -> None:
    """Remove the weights of a trained model that matter least, and write what is left."""
    row = pruning.find_pruning_method(method)
    target = out or checkpoint.with_name(f"{checkpoint.stem}-{method}-{sparsity:g}.safetensors")
    _check_target(target, checkpoint, overwrite=overwrite or dry_run)
    set_threads(threads)
    dataset = data.load(data_name, data_dir=Path(data_dir) if data_dir else None) if data_name else None
    trained = pruning.restore(checkpoint, training.build_model(model, dataset, seed=seed))
    with waiting("pruning", visible=not as_json):
        small = pruning.prune(
            trained,
            sparsity=sparsity,
            criterion=row.rule,
            budget=_budget(budget) if budget else row.budget,
            pattern=_pattern(pattern) if pattern else row.pattern,
            data=_batches(dataset, samples),
            loss_fn=cross_entropy,
            first=pruning.restore(first, trained).state_dict() if first else None,
            rounds=rounds or row.rounds,
            include=include or ("*",),
            exclude=exclude or (),
            generator=torch.Generator().manual_seed(seed),
            num_probes=probes or None,
            returning=row.returning,
        )
    stored = _stored(small)
    fields = _fields(trained, small, stored, dataset)
    if not dry_run:
        files.save(stored, target, metadata={"pruned_by": method, "sparsity": f"{sparsity:g}"})
        fields |= {"path": str(target), "file_bytes": target.stat().st_size}
    if as_json:
        sys.stdout.write(json.dumps(fields, indent=2, allow_nan=False) + "\n")
        return
    _show(fields, f"{row.label} of {checkpoint.name}", written=None if dry_run else target)


def _check_target(target: Path, checkpoint: Path, *, overwrite: bool) -> None:
    if target.exists() and target.resolve() == checkpoint.resolve():
        raise ValueError(f"{target} is the checkpoint itself; give another --out")
    if target.exists() and not overwrite:
        raise ValueError(f"{target} exists; give --overwrite, or another --out")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent}; make it, or give another --out")


def _budget(name: str) -> budgets.Budget:
    if name not in _BUDGETS:
        raise ValueError(f"unknown budget {name!r}; known are {', '.join(_BUDGETS)}")
    return _BUDGETS[name]


def _pattern(text: str) -> patterns.Pattern:
    name, *numbers = text.replace("x", ":").split(":") if text.startswith(("nm:", "block:")) else (text,)
    plain: dict[str, Callable[[], patterns.Pattern]] = {
        "unstructured": patterns.unstructured,
        "row": patterns.row,
        "column": patterns.column,
        "filters": patterns.filters,
        "kernels": patterns.kernels,
        "constant_fan_in": patterns.constant_fan_in,
    }
    if name in plain and not numbers:
        return plain[name]()
    if name in ("nm", "block") and len(numbers) == 2 and all(number.isdecimal() for number in numbers):
        sizes = int(numbers[0]), int(numbers[1])
        return patterns.nm(*sizes) if name == "nm" else patterns.block(*sizes)
    raise ValueError(f"unknown pattern {text!r}; known are {', '.join(plain)}, nm:2:4 and block:4x4")


def _batches(dataset: data.Dataset | None, samples: int) -> list[tuple[torch.Tensor, torch.Tensor]] | None:
    if dataset is None:
        return None
    count = min(check_positive(samples, name="--samples"), len(dataset.train_inputs))
    inputs, targets = dataset.train_inputs[:count], dataset.train_targets[:count]
    return list(zip(inputs.split(_BATCH), targets.split(_BATCH), strict=True))


def _stored(model: nn.Module) -> nn.Module:
    """Linear layers truly sparse where that is smaller; the others stay dense, zeros and all."""
    larger = [
        name
        for name, layer in model.named_modules()
        if type(layer) is nn.Linear and _sparse_bytes(layer.weight) >= layer.weight.nbytes
    ]
    candidates = [layer for name, layer in model.named_modules() if type(layer) is nn.Linear and name not in larger]
    return to_sparse(model, exclude=larger) if candidates else model


def _sparse_bytes(weight: torch.Tensor) -> int:
    """Values, their columns, row pointers and column pointers: 32 bits an index."""
    return int(weight.count_nonzero()) * (weight.element_size() + 4) + 4 * (sum(weight.shape) + 2)


def _fields(trained: nn.Module, small: nn.Module, stored: nn.Module, dataset: data.Dataset | None) -> dict[str, Any]:
    sparse = {f"{name}.weight".lstrip(".") for name, layer in stored.named_modules() if isinstance(layer, SparseLinear)}
    layers: list[dict[str, Any]] = []
    for weight in prunable(small, embeddings=True, frozen=True):
        active = int(weight.values().count_nonzero())
        layers.append(
            {
                "name": weight.name,
                "shape": list(weight.shape),
                "num_active": active,
                "sparsity": sparsity_of(active, numel(weight)),
                "stored": "truly sparse" if weight.name in sparse or weight.name.endswith("values") else "dense",
            }
        )
    active, total = sum(layer["num_active"] for layer in layers), sum(math.prod(layer["shape"]) for layer in layers)
    fields: dict[str, Any] = {"layers": layers, "sparsity": sparsity_of(active, total)}
    fields |= {"dense_bytes": _bytes(trained), "bytes": _bytes(stored)}
    if dataset is not None:
        fields["num_on_a_path"] = _on_a_path(small, dataset)
        fields["accuracy_before"] = training.evaluate(trained, dataset)[1]
        fields["accuracy_after"] = training.evaluate(stored, dataset)[1]
    return fields


def _on_a_path(model: nn.Module, dataset: data.Dataset) -> int | None:
    """How many weights lead from input to output; None where the model's outputs are no single tensor."""
    dense = to_dense(model)
    weights = {weight.name: weight.parameter for weight in prunable(dense, embeddings=True, frozen=True)}
    try:
        return sum(statistics.on_a_path(dense, weights, example=dataset.train_inputs[:1]).values())
    except ValueError:
        return None


def _bytes(model: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in model.state_dict().values())


def _show(fields: dict[str, Any], title: str, *, written: Path | None) -> None:
    layers = fields["layers"]
    say(f"{title}: {100 * fields['sparsity']:.1f} % of the weights go")
    columns = {
        "shape": [" x ".join(map(str, layer["shape"])) for layer in layers],
        "kept": [f"{layer['num_active']:,}" for layer in layers],
        "sparsity": [f"{100 * layer['sparsity']:.2f} %" for layer in layers],
        "stored": [layer["stored"] for layer in layers],
    }
    show_table("weight", [layer["name"] for layer in layers], columns, words=["stored"])
    if "accuracy_before" in fields:
        say(f"accuracy {100 * fields['accuracy_before']:.1f} % before, {100 * fields['accuracy_after']:.1f} % after")
        kept, useful = sum(layer["num_active"] for layer in layers), fields["num_on_a_path"]
        if useful is not None and useful < kept:
            say(f"{kept - useful:,} of the {kept:,} weights that stay lie on no path from input to output")
    small, dense = fields["bytes"], fields["dense_bytes"]
    if small < dense:
        say(f"the model takes {size_text(small)}, {dense / small:.1f} times less than the dense {size_text(dense)}")
    else:
        say(f"the model is not smaller than the dense {size_text(dense)}: too few weights go, or not of linear layers")
    if whole := [layer["name"] for layer in layers if layer["stored"] == "dense" and layer["sparsity"] > 0]:
        say(f"dense with zeros, so neither smaller nor faster: {', '.join(whole)}")
    say("nothing was written (--dry-run)" if written is None else f"model  {written}")
