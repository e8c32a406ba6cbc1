"""gossamer compare: several methods on the same data, one table, one page."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from gossamer.cli import options as o
from gossamer.cli.folder import claim
from gossamer.cli.progress import progress_bar, stop_on_interrupt, waiting
from gossamer.cli.run import (
    check_same,
    prints_to_stderr,
    repeating_command,
    results_json,
    run_in,
    set_threads,
    write_page,
)
from gossamer.cli.tables import counted, say, show_results, verdicts
from gossamer.counts import check_positive
from gossamer.data import Dataset
from gossamer.training import Config, check, find_method, load_data, write_config

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
    update_until: o.UpdateUntil = _DEFAULT.update_until,
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
        update_until=update_until,
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
    set_threads(threads)
    # Seeds outside, methods inside: what slows the machine for a while slows all methods alike.
    configs = [
        replace(config, method=m.name, seed=number, learning_rate=(dense_lr or lr) if m.name == "dense" else lr)
        for number in range(seed, seed + seeds)
        for m in chosen
    ]
    folder = out or Path("runs") / f"compare-{Path(data).stem}"
    with prints_to_stderr(as_json):
        dataset = load_data(config)
        with waiting("preparing", visible=not as_json):
            for each in configs[: len(chosen)]:
                check(each, dataset)
        with claim(folder, resume=resume, overwrite=overwrite, comparison=True):
            if resume:
                # More methods and more seeds may join.
                check_same(config, folder, ignore=["method"])
            write_config(folder / "config.toml", config, command=repeating_command())
            results = _run_all(configs, dataset, folder / "runs", resume=resume, visible=not as_json)
            page = write_page(folder)
    if as_json:
        sys.stdout.write(results_json(results, config, folder) + "\n")
        return
    title = f"{dataset.name}, {config.model}, {counted(seeds, 'seed')}, {counted(epochs, 'epoch')}"
    show_results(results, title=title)
    for line in verdicts(results):
        say(line)
    say(f"report {page}")


def _run_all(
    configs: Sequence[Config], dataset: Dataset, folder: Path, *, resume: bool, visible: bool
) -> dict[str, list[dict[str, Any]]]:
    """Train one after the other, each in a folder of its own; return what they reached by the method's label."""
    results: dict[str, list[dict[str, Any]]] = {}
    with progress_bar(visible=visible) as begin, stop_on_interrupt() as should_stop:
        for config in configs:
            label = find_method(config.method).label
            fields = run_in(
                folder / f"{config.method}-seed{config.seed}",
                config,
                dataset,
                resume=resume,
                watch=begin(f"{label}, seed {config.seed}"),
                should_stop=should_stop,
            )
            results.setdefault(label, []).append(fields)
    return results
