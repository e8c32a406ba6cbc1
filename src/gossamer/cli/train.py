"""gossamer train: one network, one folder."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from gossamer.cli import options as o
from gossamer.cli.folder import claim
from gossamer.cli.progress import progress_bar, stop_on_interrupt, waiting
from gossamer.cli.run import prints_to_stderr, results_json, run_in, set_threads, write_page
from gossamer.cli.tables import counted, say, show_results
from gossamer.training import Config, check, find_method, load_data

_DEFAULT = Config(method="set")


def train(
    method: Annotated[str, typer.Option(help="see: gossamer methods")] = "set",
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
    decay: o.Decay = _DEFAULT.decay,
    momentum: o.Momentum = _DEFAULT.momentum,
    weight_decay: o.WeightDecay = _DEFAULT.weight_decay,
    dropout: o.Dropout = _DEFAULT.dropout,
    seed: o.Seed = _DEFAULT.seed,
    out: o.Out = None,
    resume: o.Resume = False,
    overwrite: o.Overwrite = False,
    threads: o.Threads = 0,
    as_json: o.Json = False,
) -> None:
    """Train one network and write its folder: config.toml, metrics.jsonl, model.safetensors, report.html."""
    label = find_method(method).label
    config = Config(
        method=method,
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
    folder = out or Path("runs") / f"{Path(data).stem}-{method}"
    with prints_to_stderr(as_json):
        dataset = load_data(config)
        with waiting("preparing", visible=not as_json):
            check(config, dataset)
        with claim(folder, resume=resume, overwrite=overwrite):
            with progress_bar(visible=not as_json) as begin, stop_on_interrupt() as should_stop:
                watch = begin(f"{label}, seed {seed}")
                fields = run_in(folder, config, dataset, resume=resume, watch=watch, should_stop=should_stop)
            page = write_page(folder)
    if as_json:
        sys.stdout.write(results_json({label: [fields]}, config, folder) + "\n")
        return
    show_results({label: [fields]}, title=f"{label} on {dataset.name}, {config.model}, {counted(epochs, 'epoch')}")
    say(f"model  {folder / 'model.safetensors'}\nreport {page}")
