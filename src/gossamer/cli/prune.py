"""gossamer prune: a trained model, made sparse."""

import copy
import inspect
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import nn

from gossamer import budgets, data, files, patterns, pruning, training
from gossamer.cli import options as o
from gossamer.cli.folder import model_of
from gossamer.cli.progress import nothing_written, progress_bar, stop_on_interrupt, waiting
from gossamer.cli.pruned import describe_pruned, show_pruned, store
from gossamer.cli.run import prints_to_stderr, set_threads
from gossamer.cli.target import check_target, write_model
from gossamer.counts import check_positive
from gossamer.data import Dataset
from gossamer.elementwise import is_elementwise
from gossamer.nn import to_dense
from gossamer.training import Config
from gossamer.training.trial import check_steps

_BUDGETS: dict[str, budgets.Budget] = {
    "uniform": budgets.uniform,
    "uniform_plus": budgets.uniform_plus,
    "global": budgets.global_,
    "er": budgets.er,
    "erk": budgets.erk,
    "lamp": budgets.lamp,
}
_BATCH = 100
# What the JSON says of the training, of a configuration's fields.
_SETTINGS = ("epochs", "batch_size", "optimizer", "learning_rate", "decay", "momentum", "weight_decay", "seed")
_DEFAULT = Config(method="magnitude")
_FINETUNING = "Training"
# Options that have no effect without --finetune.
_OF_FINETUNING = ("distill", "rewind", "batch_size", "optimizer", "lr", "decay", "momentum", "weight_decay")


def prune(
    context: typer.Context,
    checkpoint: Annotated[
        Path, typer.Argument(help="a trained model: .pt, .pth, .safetensors, or the folder of a run")
    ],
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
    finetune: Annotated[
        int,
        typer.Option(
            help="passes over the training data after the cut, with the zeros held; 0: none",
            rich_help_panel=_FINETUNING,
        ),
    ] = 0,
    distill: Annotated[
        bool,
        typer.Option("--distill", help="learn from the outputs of the unpruned model too", rich_help_panel=_FINETUNING),
    ] = False,
    rewind: Annotated[
        Path | None,
        typer.Option(
            help="an earlier checkpoint: what stays starts from its values there", rich_help_panel=_FINETUNING
        ),
    ] = None,
    batch_size: o.BatchSize = _DEFAULT.batch_size,
    optimizer: o.Optimizer = _DEFAULT.optimizer,
    lr: o.LearningRate = 0.01,
    decay: o.Decay = _DEFAULT.decay,
    momentum: o.Momentum = _DEFAULT.momentum,
    weight_decay: o.WeightDecay = _DEFAULT.weight_decay,
    seed: o.Seed = 0,
    out: Annotated[Path | None, typer.Option(help=".safetensors file to write; default: beside the checkpoint")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace that file")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="show the plan, layer by layer; train nothing, write nothing")
    ] = False,
    threads: o.Threads = 0,
    as_json: o.Json = False,
) -> None:
    """Remove the weights of a trained model that matter least, train it on if asked to, and write what is left."""
    row = pruning.find_pruning_method(method)
    shares, shape = _budget(budget) if budget else row.budget, _pattern(pattern) if pattern else row.pattern
    checkpoint = model_of(checkpoint) if checkpoint.is_dir() else checkpoint
    target = out or checkpoint.with_name(f"{checkpoint.stem}-{method}-{sparsity:g}.safetensors")
    check_target(target, [checkpoint, first, rewind], overwrite=overwrite or dry_run)
    _check_finetuning(context, finetune, with_data=bool(data_name))
    if first and "first_weight" not in _asks(row.rule):
        raise ValueError(f"--first has no effect on {method}, which compares with nothing; leave it out")
    config = Config(
        method=method,
        model=model,
        sparsity=sparsity,
        # Without fine-tuning it is looked at by nobody.
        epochs=finetune or 1,
        batch_size=batch_size,
        optimizer=optimizer,
        learning_rate=lr,
        decay=decay,
        momentum=momentum,
        weight_decay=weight_decay,
        seed=seed,
    )
    _check_activation(checkpoint, model)
    set_threads(threads)
    with nothing_written(), prints_to_stderr(as_json):
        dataset = data.load(data_name, data_dir=Path(data_dir) if data_dir else None) if data_name else None
        architecture = training.build_model(model, dataset, seed=seed)
        trained = pruning.restore(checkpoint, architecture)
        if not _judges_entries(row.rule, shape):
            trained = to_dense(trained)
        earlier = pruning.restore(rewind, architecture).state_dict() if rewind else None
        if finetune and dataset:
            check_steps(copy.deepcopy(trained), config, dataset)
        with waiting("pruning", visible=not as_json):
            small = pruning.prune(
                trained,
                sparsity=sparsity,
                criterion=row.rule,
                budget=shares,
                pattern=shape,
                data=_batches(dataset, samples),
                loss_fn=row.loss,
                first=pruning.restore(first, architecture).state_dict() if first else None,
                rounds=rounds or row.rounds,
                include=include or ("*",),
                exclude=exclude or (),
                generator=torch.Generator().manual_seed(seed),
                num_probes=probes or None,
                returning=row.returning,
            )
            stored = store(small)
            fields = describe_pruned(trained, small, stored, dataset)
        if finetune and dataset:
            fields["finetune"] = {name: asdict(config)[name] for name in _SETTINGS}
            fields["finetune"] |= {"distill": distill, "rewind": str(rewind) if rewind else None, "run": not dry_run}
        if finetune and dataset and not dry_run:
            teacher = trained if distill else None
            stored = _finetuned(stored, config, dataset, teacher, earlier, fields, visible=not as_json)
    if not dry_run:
        tuned = {"finetune_epochs": str(finetune)} if finetune else {}
        write_model(stored, target, {"pruned_by": method, "sparsity": f"{sparsity:g}", **tuned})
        fields |= {"path": str(target), "file_bytes": target.stat().st_size}
    if as_json:
        sys.stdout.write(json.dumps(fields, indent=2, allow_nan=False) + "\n")
        return
    show_pruned(fields, f"{row.label} of {checkpoint.name}", written=None if dry_run else target)


def _finetuned(
    model: nn.Module,
    config: Config,
    dataset: Dataset,
    teacher: nn.Module | None,
    earlier: dict[str, torch.Tensor] | None,
    fields: dict[str, Any],
    *,
    visible: bool,
) -> nn.Module:
    """The model trained on; what that took and reached is added to the fields."""
    start = time.perf_counter()
    with progress_bar(visible=visible) as begin, stop_on_interrupt() as should_stop:
        tuned = training.finetune(
            model,
            config,
            dataset,
            teacher=teacher,
            earlier=earlier,
            watch=begin("fine-tuning"),
            should_stop=should_stop,
        )
    fields["finetune"]["seconds"] = time.perf_counter() - start
    fields["accuracy_finetuned"] = training.evaluate(tuned, dataset)[1]
    return tuned


def _asks(rule: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(rule).parameters)


def _judges_entries(rule: Callable[..., Any], pattern: patterns.Pattern) -> bool:
    """Whether the entries of a weight can be judged one by one, so that one that is truly sparse can stay so.

    All else works on dense tensors, whose zeros stay zeros.
    """
    return is_elementwise(rule) and pattern == patterns.unstructured() and _asks(rule) <= {"weight", "generator"}


def _check_activation(checkpoint: Path, model: str) -> None:
    """An mlp of another activation has the same names and shapes, and would be pruned as something that it is not."""
    if checkpoint.suffix == ".safetensors" and checkpoint.is_file() and model.startswith("mlp:"):
        name = files.read(checkpoint).metadata.get("method")
        if any(method.all_relu for method in training.METHODS if method.name == name):
            raise ValueError(
                f"{checkpoint} was trained with All-ReLU, {model} has ReLU; give a function that builds it"
            )


def _check_finetuning(context: typer.Context, finetune: int, *, with_data: bool) -> None:
    if finetune < 0:
        raise ValueError(f"--finetune must be 0 or more passes over the training data, got {finetune}")
    if finetune and not with_data:
        raise ValueError("--finetune trains on the rows of a data set, and none was given; give --data")
    sources = {name: context.get_parameter_source(name) for name in _OF_FINETUNING}
    given = [name.replace("_", "-") for name, source in sources.items() if source and source.name == "COMMANDLINE"]
    if given and not finetune:
        raise ValueError(f"--{', --'.join(given)} has no effect without training; give --finetune, or leave it out")


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
