"""gossamer compare: several methods on the same data, one table, one page."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from gossamer.cli import options as o
from gossamer.cli.folder import claim
from gossamer.cli.progress import progress_bar, stop_on_interrupt
from gossamer.cli.run import repeating_command, results_json, run_in
from gossamer.cli.tables import results_table, verdicts
from gossamer.counts import check_positive
from gossamer.report import write_report
from gossamer.training import Config, find_method, load_data, write_config

_DEFAULT = Config(method="dense")


def compare(
    methods: Annotated[str, typer.Option(help="names with commas between, see: gossamer methods")] = (
        "dense,static,set,rigl"
    ),
    data: o.Data = _DEFAULT.data,
    data_dir: o.DataDir = _DEFAULT.data_dir,
    model: o.Model = _DEFAULT.model,
    train_size: o.TrainSize = _DEFAULT.train_size,
    test_size: o.TestSize = _DEFAULT.test_size,
    sparsity: o.Sparsity = _DEFAULT.sparsity,
    epsilon: o.Epsilon = _DEFAULT.epsilon,
    storage: o.Storage = _DEFAULT.storage,
    drop_fraction: o.DropFraction = _DEFAULT.drop_fraction,
    update_every: o.UpdateEvery = _DEFAULT.update_every,
    alpha: o.Alpha = _DEFAULT.alpha,
    epochs: o.Epochs = _DEFAULT.epochs,
    batch_size: o.BatchSize = _DEFAULT.batch_size,
    optimizer: o.Optimizer = _DEFAULT.optimizer,
    lr: o.LearningRate = _DEFAULT.learning_rate,
    dense_lr: Annotated[float, typer.Option(help="learning rate of dense, if another; 0: --lr")] = 0.0,
    decay: o.Decay = _DEFAULT.decay,
    momentum: o.Momentum = _DEFAULT.momentum,
    weight_decay: o.WeightDecay = _DEFAULT.weight_decay,
    dropout: o.Dropout = _DEFAULT.dropout,
    seed: o.Seed = _DEFAULT.seed,
    seeds: Annotated[int, typer.Option(help="runs of each method, with seeds from --seed on")] = 1,
    out: o.Out = None,
    resume: o.Resume = False,
    overwrite: o.Overwrite = False,
    threads: o.Threads = 0,
    as_json: o.Json = False,
) -> None:
    """Train several methods on the same data and write one folder with one report.html."""
    chosen = [find_method(name.strip()) for name in methods.split(",")]
    if len({method.name for method in chosen}) < len(chosen):
        raise ValueError(f"--methods names one method twice: {methods}")
    check_positive(seeds, name="--seeds")
    config = Config(
        method=chosen[0].name,
        data=data,
        data_dir=data_dir,
        model=model,
        train_size=train_size,
        test_size=test_size,
        sparsity=sparsity,
        epsilon=epsilon,
        storage=storage,
        drop_fraction=drop_fraction,
        update_every=update_every,
        alpha=alpha,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer,
        learning_rate=lr,
        decay=decay,
        momentum=momentum,
        weight_decay=weight_decay,
        dropout=dropout,
        seed=seed,
    )
    if threads:
        torch.set_num_threads(threads)
    folder = out or Path("runs") / f"compare-{Path(data).stem}"
    dataset = load_data(config)
    results: dict[str, list[dict[str, Any]]] = {method.label: [] for method in chosen}
    with claim(folder, resume=resume, overwrite=overwrite):
        write_config(folder / "config.toml", config, command=repeating_command())
        with progress_bar(visible=not as_json) as begin, stop_on_interrupt() as should_stop:
            # Seeds outside, methods inside: what slows the machine for a while slows all methods alike.
            for number in range(seed, seed + seeds):
                for method in chosen:
                    rate = dense_lr if dense_lr and method.name == "dense" else lr
                    fields = run_in(
                        folder / "runs" / f"{method.name}-seed{number}",
                        replace(config, method=method.name, seed=number, learning_rate=rate),
                        dataset,
                        resume=resume,
                        command=repeating_command(),
                        watch=begin(f"{method.label}, seed {number}"),
                        should_stop=should_stop,
                    )
                    results[method.label].append(fields)
        page = write_report(folder)
    if as_json:
        sys.stdout.write(results_json(results, config, folder) + "\n")
        return
    console = Console()
    title = f"{dataset.name}, {config.model}, {seeds} seed{'s' if seeds > 1 else ''}, {epochs} epochs"
    console.print(results_table(results, title=title))
    for line in verdicts(results):
        console.print(line, soft_wrap=True)
    console.print(f"report {page}", soft_wrap=True)
