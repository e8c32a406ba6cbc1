"""The order of criteria on real networks: prune trained ones in one shot by each, and compare what is left of them.

    GOSSAMER_DATA=/path/to/data OMP_NUM_THREADS=1 python benchmarks/criteria.py --threads 1 --out runs/criteria
    GOSSAMER_DATA=/path/to/data python benchmarks/criteria.py --networks mlp --criteria random,magnitude --seeds 1

Trains 784-300-100-10 on Fashion-MNIST and ResNet-8 on CIFAR-10 (a pack of recompressed images), then prunes a copy by
every weight criterion at every sparsity with `gossamer.prune`, without training on; with --finetune N also after N
passes over the data in which zeros stay zero. Batch normalisation takes its statistics anew after every pruning, for
all criteria on the same images. Solvers, which move what stays, have a second row: their mask on the old values.

Trained networks and rows are kept under --out: a second run trains nothing, and a stopped one goes on where it was.
criteria.jsonl has a row for each pruned network, criteria.svg the curves. At the end stand the accuracies and, computed
from them, which orders that papers claim hold in this run.

What to know when reading the table: SNIP and Taylor give one and the same mask here, since a square changes no order
and both compete globally. OBD stands behind what it could be: 128 random probes for the diagonal of the Hessian leave
noise in it. GraSP and SynFlow were made for networks before training. OBC on the 784 inputs of the first layer takes
minutes, so it runs for --costly-seeds alone. Movement is left out: its score is a sum over the steps of a fine-tuning,
not a property of a trained network. What sees a sample's own gradient, or Hessians, sees
--gradient-samples; all else --calibration.
"""

import argparse
import copy
import functools
import inspect
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from criteria_networks import TASKS, Batches, Task, accuracy, train_, trained
from criteria_report import MASK_ONLY, collect, panel, show_accuracies, show_order
from line_chart import svg
from torch import Tensor, nn

import gossamer as gs
from gossamer.cli.tables import say
from gossamer.elementwise import is_elementwise
from gossamer.machine import describe_machine
from gossamer.pruning import PruningMethod, find_pruning_method
from gossamer.pruning.cut import is_solver

_NAMES = "random magnitude lamp snip grasp synflow taylor fisher obd wanda woodfisher l_obs sparsegpt obc"
METHODS = {name: find_pruning_method(name) for name in _NAMES.split()}
METHODS["magnitude_global"] = PruningMethod(
    name="magnitude_global",
    label="magnitude, global",
    summary="remove the smallest weights of the whole model",
    paper="Han et al. 2015, arXiv:1506.02626",
    rule=gs.criteria.magnitude,
    budget=gs.budgets.global_,
)
METHODS["m_fac"] = PruningMethod(
    name="m_fac",
    label="M-FAC",
    summary="remove by the inverse Fisher matrix of each tensor, and move the others",
    paper="Frantar et al. 2021, arXiv:2107.03356",
    rule=functools.partial(gs.solvers.m_fac, dampening=1e-5),
)
# A backward pass for each sample or probe.
FEW_SAMPLES = ("squared_grad", "sample_grads", "hessian_diagonal")
COSTLY = {("mlp", "obc")}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a result depends on beside network, criterion, sparsity and seed."""

    train_size: int
    test_size: int
    epochs: int
    calibration: int
    gradient_samples: int


@dataclass(frozen=True, kw_only=True)
class Case:
    """A trained network that is to be pruned by one criterion at several sparsities."""

    task: Task
    model: nn.Module
    method: PruningMethod
    seed: int
    settings: Settings


class Rows:
    """The file of results: read at the start, then a line for each new one."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self._path, self._settings = path, asdict(settings)
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
        if lines and not lines[-1].endswith("\n"):
            # A run that was killed while it wrote: that row is measured anew.
            path.write_text("".join(lines[:-1]), encoding="utf-8")
            lines.pop()
        found = [json.loads(line) for line in lines]
        self.rows: list[dict[str, Any]] = [row for row in found if row["settings"] == self._settings]

    def has(self, **key: Any) -> bool:
        """Return whether there is a row with these fields."""
        return any(all(row[name] == value for name, value in key.items()) for row in self.rows)

    def add(self, **row: Any) -> None:
        """Keep a row and write it down."""
        self.rows.append({**row, "settings": self._settings})
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self.rows[-1]) + "\n")


def pruned_at(case: Case, sparsities: list[float]) -> Iterator[tuple[float, nn.Module | ValueError, float]]:
    """Yield the sparsity, the pruned network or what is wrong with it, and the seconds of pruning."""
    method, judged = case.method, list[Tensor]()
    asked = inspect.signature(method.rule).parameters
    few = any(name in asked for name in FEW_SAMPLES)
    data = case.task.first(case.settings.gradient_samples if few else case.settings.calibration)
    for sparsity in sparsities:
        rule: Callable[..., Any] = method.rule
        if method.rounds == 1 and not is_solver(rule):
            # Scores do not depend on the sparsity, and some take long.
            rule = replayed(judged, like=rule) if judged else recorded(rule, judged)
        start = time.process_time()
        pruned: nn.Module | ValueError
        try:
            pruned = gs.prune(
                case.model,
                sparsity=sparsity,
                criterion=rule,
                budget=method.budget,
                pattern=method.pattern,
                rounds=method.rounds,
                data=data,
                loss_fn=method.loss,
                generator=torch.Generator().manual_seed(case.seed),
                reestimate=False,
            )
        except ValueError as error:
            pruned = error
            judged.clear()
        yield sparsity, pruned, time.process_time() - start


def recorded(rule: Callable[..., Any], judged: list[Tensor]) -> Callable[..., Any]:
    """Return the rule, which also puts what it returns into a list."""

    @functools.wraps(rule)
    def judge(*args: Tensor, **keywords: Any) -> Any:
        judged.append(rule(*args, **keywords))
        return judged[-1]

    return judge


def replayed(judged: list[Tensor], *, like: Callable[..., Any]) -> Callable[..., Any]:
    """Return a criterion that gives the scores of a list, one weight after the other, in the shape of another's."""
    scores = iter(judged)

    def judge(weight: Tensor) -> Tensor:
        return next(scores)

    return gs.criteria.elementwise(judge) if is_elementwise(like) else judge


def with_old_values(pruned: nn.Module, model: nn.Module) -> nn.Module:
    """Return the network as it was, but for the weights that are zero in the pruned one."""
    found = copy.deepcopy(model)
    for own, other in zip(gs.prunable(found), gs.prunable(pruned), strict=True):
        own.parameter.data.mul_(other.parameter.detach() != 0)
    return found


def prune_and_measure(case: Case, network: str, sparsities: list[float], finetunes: list[int], rows: Rows) -> None:
    """Add a row for each sparsity, with and without the solver's update, before and after training on."""
    name = case.method.name
    names = [name, name + MASK_ONLY] if is_solver(case.method.rule) else [name]
    keys = {"network": network, "seed": case.seed}

    def is_open(sparsity: float) -> bool:
        each = [(one, passes) for one in names for passes in finetunes]
        return not all(rows.has(**keys, criterion=one, sparsity=sparsity, finetune=n) for one, n in each)

    calibration = case.task.first(case.settings.calibration)
    for sparsity, pruned, seconds in pruned_at(case, [one for one in sparsities if is_open(one)]):
        texts = []
        # Before any training on, which changes networks in place.
        variants = {name: pruned}
        if len(names) > 1:
            old = pruned if isinstance(pruned, ValueError) else with_old_values(pruned, case.model)
            variants[name + MASK_ONLY] = old
        for one, variant in variants.items():
            for passes in finetunes:
                key = {**keys, "criterion": one, "sparsity": sparsity, "finetune": passes}
                if rows.has(**key):
                    continue
                result = outcome(variant, case, calibration, passes)
                rows.add(**key, **result, seconds=round(seconds, 3) if one == name else 0.0)
                texts.append(f"{100 * result['accuracy']:.1f}" if "accuracy" in result else result["error"])
        say(f"{network} seed {case.seed} {name} {sparsity:g}: {', '.join(texts)} ({seconds:.1f} s)")


def outcome(variant: nn.Module | ValueError, case: Case, data: Batches, passes: int) -> dict[str, Any]:
    """Return the fields of a row: an accuracy, with the sparsity that was reached, or an error."""
    if isinstance(variant, ValueError):
        return {"error": str(variant)}
    if gs.statistics.has_running_statistics(variant):
        gs.statistics.reestimate_(variant, data)
    if passes:
        generator = torch.Generator().manual_seed(case.seed)
        # A tenth of the rate of the training before: the usual end of its schedule.
        train_(variant, case.task, passes=passes, learning_rate=0.01, generator=generator, hold=True)
    values = torch.cat([weight.values().flatten() for weight in gs.prunable(variant)])
    return {"accuracy": accuracy(variant, case.task), "reached": 1.0 - float(values.count_nonzero()) / values.numel()}


def sweep(network: str, options: argparse.Namespace, settings: Settings, rows: Rows) -> Task:
    """Train and prune one network for all seeds; what has a row already is left out."""
    task = TASKS[network](settings.train_size, settings.test_size)
    finetunes = [0, options.finetune] if options.finetune else [0]
    for seed in range(options.seeds):
        name = f"{network}-{seed}-{settings.train_size}-{settings.epochs}.safetensors"
        model = trained(task, Path(options.out, "networks", name), seed=seed, passes=settings.epochs)
        for passes in finetunes:
            key = {"network": network, "seed": seed, "criterion": "dense", "sparsity": 0.0, "finetune": passes}
            if not rows.has(**key):
                rows.add(**key, accuracy=accuracy(model, task), seconds=0.0)
                say(f"{network} seed {seed} unpruned: {100 * rows.rows[-1]['accuracy']:.1f}")
        for one in options.criteria:
            if (network, one) in COSTLY and seed >= options.costly_seeds:
                continue
            case = Case(task=task, model=model, method=METHODS[one], seed=seed, settings=settings)
            prune_and_measure(case, network, options.sparsities, finetunes, rows)
    return task


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def known(every: dict[str, Any]) -> Callable[[str], list[str]]:
        def names(text: str) -> list[str]:
            if unknown := set(text.split(",")) - set(every):
                raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known are {', '.join(every)}")
            return text.split(",")

        return names

    def numbers(text: str) -> list[float]:
        return [float(part) for part in text.split(",")]

    parser.add_argument("--networks", type=known(dict(TASKS)), default=list(TASKS))
    parser.add_argument("--criteria", type=known(METHODS), default=list(METHODS), help=", ".join(METHODS))
    parser.add_argument("--sparsities", type=numbers, default=[0.5, 0.7, 0.8, 0.9, 0.95, 0.98])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--costly-seeds", type=int, default=1, help="seeds of OBC on the MLP")
    parser.add_argument("--train-size", type=int, default=8000)
    parser.add_argument("--test-size", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--finetune", type=int, default=0, help="passes over the data after pruning, beside none")
    parser.add_argument("--calibration", type=int, default=256, help="images for inputs, gradients, normalisation")
    parser.add_argument("--gradient-samples", type=int, default=64, help="images for gradients of one sample")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/criteria"))
    return parser.parse_args()


def main() -> None:
    options = parsed()
    if options.threads:
        torch.set_num_threads(options.threads)
    fields = ("train_size", "test_size", "epochs", "calibration", "gradient_samples")
    settings = Settings(**{name: getattr(options, name) for name in fields})
    options.out.mkdir(parents=True, exist_ok=True)
    rows = Rows(options.out / "criteria.jsonl", settings)
    say(f"{describe_machine()}")
    labels = {network: sweep(network, options, settings, rows).label for network in options.networks}
    panels = []
    for network, label in labels.items():
        for passes in [0, options.finetune] if options.finetune else [0]:
            title = f"{label}, pruned and trained on (--finetune {passes})" if passes else label
            found = collect(rows.rows, network=network, finetune=passes)
            show_accuracies(found, title=title)
            show_order(found, title=title, num_images=options.test_size)
            panels.append(panel(found, title=title))
    chart = svg(panels, x_label="sparsity", y_label="accuracy on test images, %")
    (options.out / "criteria.svg").write_text(chart, encoding="utf-8")
    say(f"\nrows and chart: {options.out}/criteria.jsonl, {options.out}/criteria.svg")


if __name__ == "__main__":
    main()
