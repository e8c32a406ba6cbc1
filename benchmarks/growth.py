"""Dynamic sparse training on real data: dense, static, SET, RigL and others at equal numbers of weights.

    GOSSAMER_DATA=/path/to/data OMP_NUM_THREADS=1 python benchmarks/growth.py --experiment lenet --out runs/growth
    GOSSAMER_DATA=/path/to/data python benchmarks/growth.py --experiment lenet --methods snip,gmp --sparsities 0.95
    python benchmarks/growth.py --table --plot growth.svg --out runs/growth

Experiments, see growth_trials.py for their settings: lenet (LeNet-300-100 on MNIST), fashion (784-1000x3-10 on
Fashion-MNIST), cifar (three convolutions on recompressed CIFAR-10 images), itop (how often a topology changes),
all_relu (All-ReLU against ReLU, and the scale of the first values), packs (Madelon, Isolet, Higgs, leukemia with the
networks of Truly Sparse) and neurons (importance pruning).

How they are compared: settings were fixed before the runs, from the papers or by --validation, which tests rows held
back from the training set; they are the same for all methods. Each method has the updates and the budget of its paper,
but as many weights in total; in cifar all have one budget, ERK. What counts is the accuracy on test rows after the last
step, never the best one, as mean and standard deviation over seeds. A seed draws first values, topologies and the
order of the data; of leukemia, which has 72 rows, also which rows are tested.

Every finished training is a line of --out/growth.jsonl: a second call leaves out what stands there.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
from growth_tables import chart, groups, show
from growth_training import run
from growth_trials import EXPERIMENTS, KNOWN_METHODS, Trial
from line_chart import svg

from gossamer.cli.tables import say
from gossamer.machine import describe_machine
from gossamer.training import Config


class Results:
    """The file of finished trials: read at the start, then a line for each new one.

    Args:
        path: of the file; made where there is none.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
        if lines and not lines[-1].endswith("\n"):
            # Killed while it wrote: that trial is run anew.
            path.write_text("".join(lines[:-1]), encoding="utf-8")
            lines.pop()
        self.found: dict[Trial, dict[str, Any]] = {}
        for line in lines:
            entry = json.loads(line)
            trial = Trial(**{**entry["trial"], "config": Config(**entry["trial"]["config"])})
            self.found[trial] = entry["result"]

    def add(self, trial: Trial, result: dict[str, Any]) -> None:
        """Keep a result and write it down."""
        line = json.dumps({"trial": asdict(trial), "result": result})
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        self.found[trial] = json.loads(line)["result"]


def trials(options: argparse.Namespace) -> Iterator[Trial]:
    """Yield what was asked for, one seed after the other, so that a stop leaves whole seeds."""
    own = {"epochs": options.epochs, "learning_rate": options.learning_rate}
    given = dict(options.config) | {name: value for name, value in own.items() if value}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for experiment in options.experiment:
            for trial in EXPERIMENTS[experiment](seed, options.methods):
                config = trial.config
                if options.sparsities and config.sparsity and config.sparsity not in options.sparsities:
                    continue
                if options.panels and not any(part in trial.panel for part in options.panels):
                    continue
                yield replace(trial, config=replace(config, **given), validation=options.validation)


def in_words(result: dict[str, Any]) -> str:
    """Say what came of a training."""
    if "diverged" in result:
        return f"the loss was no number in epoch {result['diverged']}"
    return f"{100 * result['accuracy']:.2f} %, {result['num_active']:,} weights, {result['seconds']:.1f} s"


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def names(text: str) -> list[str]:
        return text.split(",")

    def methods(text: str) -> list[str]:
        if unknown := set(names(text)) - set(KNOWN_METHODS):
            known = ", ".join(KNOWN_METHODS)
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; known are {known}")
        return names(text)

    def setting(text: str) -> tuple[str, int | float | str]:
        name, _, value = text.partition("=")
        kinds = {field.name: field.type for field in fields(Config)}
        if name not in kinds or name in {"method", "sparsity", "seed"}:
            raise argparse.ArgumentTypeError(f"{name} is no setting of a run that all share")
        kind = kinds[name]
        return name, value if kind is str else int(value) if kind is int else float(value)

    parser.add_argument("--experiment", nargs="+", choices=list(EXPERIMENTS), default=[], metavar="NAME")
    parser.add_argument("--methods", type=methods, default=[], help="rows of `gossamer methods`; default: each's own")
    parser.add_argument("--sparsities", type=lambda text: [float(part) for part in names(text)], default=[])
    parser.add_argument("--panels", type=names, default=[], help="only tables whose title has one of these words")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=0, help="default: the experiment's own")
    parser.add_argument("--learning-rate", type=float, default=0.0, help="default: the experiment's own")
    parser.add_argument("--config", type=setting, nargs="+", default=[], metavar="NAME=VALUE", help="other settings")
    parser.add_argument("--validation", action="store_true", help="test rows held back from the training set")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/growth"))
    parser.add_argument("--table", action="store_true", help="print the tables of what is in --out")
    parser.add_argument("--plot", type=Path, help="draw accuracy against sparsity into this .svg file")
    options = parser.parse_args()
    if not (options.experiment or options.table or options.plot):
        parser.error(f"nothing to do; give --experiment ({', '.join(EXPERIMENTS)}), --table or --plot")
    return options


def main() -> None:
    options = parsed()
    if options.threads:
        torch.set_num_threads(options.threads)
    results = Results(options.out / "growth.jsonl")
    say(f"{describe_machine()}")
    for trial in trials(options):
        if trial in results.found:
            continue
        result = run(trial)
        results.add(trial, result)
        say(f"{trial.panel}; {trial.label} {trial.config.sparsity:.4g} seed {trial.config.seed}: {in_words(result)}")
        sys.stdout.flush()
    every = groups((trial, result) for trial, result in results.found.items() if "diverged" not in result)
    if options.table:
        for group in every:
            show(group)
        for trial, result in results.found.items():
            if "diverged" in result:
                say(f"left out: {trial.panel}; {trial.label} seed {trial.config.seed}: {in_words(result)}")
    if options.plot:
        panels = [drawn for group in every if (drawn := chart(group))]
        options.plot.write_text(svg(panels, x_label="sparsity", y_label="accuracy on test rows, %"), encoding="utf-8")


if __name__ == "__main__":
    main()
