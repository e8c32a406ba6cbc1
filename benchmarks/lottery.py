"""Repeat the lottery ticket experiment: LeNet-300-100 on MNIST, iterative magnitude pruning with rewinding.

    GOSSAMER_DATA=/path/to/data python benchmarks/lottery.py --seeds 1 --threads 1 --out lottery

Published (Frankle, Carbin, ICLR 2019, arXiv:1803.03635, section 2): tickets of 3.6 % of the weights reach
the accuracy of the dense network, and the same masks with new first values fall below it, the more so the sparser.
What the paper does and this repeats: Gaussian Glorot first values, Adam 1.2e-3, batches of 60, 5,000 rows of the
training set for validation, each round 20 % of every layer and 10 % of the output layer, accuracy at the end and at the
step of least validation loss. Differs: --steps 6000, where the paper trains for 50,000 (--steps 50000); validation
every 250 steps.

Controls, in every third round and the last (--controls-every 1: in all): "re-init", the same masks and new Glorot
values as in the paper; "live re-init", new values that are larger in proportion as inputs are fewer
(`reinitialized_ticket`); "shuffled", as many weights of each layer at random places, with their first values
(`shuffled_ticket`).

Below 30 % of the weights the layers are truly sparse, which is faster; before it starts the benchmark shows that
this is the same training. A round that is finished is a line of --out/steps-6000.jsonl; the same command goes on after
it, bit for bit.
"""

import argparse
import base64
import copy
import json
import math
import statistics
import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import gossamer as gs
from gossamer.machine import describe_machine
from gossamer.recipes import Ticket, lottery_tickets, reinitialized_ticket, shuffled_ticket

SIZES = [784, 300, 100, 10]
LEARNING_RATE, BATCH, NUM_VALIDATION, CHECK_EVERY = 1.2e-3, 60, 5000, 250
PUBLISHED_LEFT, POINTS = 3.6, 0.2
# Above it a dense product is about as fast.
SPARSE_BELOW = 0.3
TICKET, REINIT, LIVE, SHUFFLED = "ticket", "re-init", "live re-init", "shuffled"
METHODS = (TICKET, REINIT, LIVE, SHUFFLED)


class Rows(NamedTuple):
    """Inputs and targets for training, for validation and for the test."""

    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def rows() -> Rows:
    """Return MNIST with inputs in [0, 1]; the rows for validation are drawn, the same in every run."""
    full = gs.data.load("mnist", standardize=False)
    order = torch.randperm(len(full.train_inputs), generator=torch.Generator().manual_seed(0))
    held, kept = order[:NUM_VALIDATION], order[NUM_VALIDATION:]
    inputs, targets = full.train_inputs, full.train_targets
    return Rows((inputs[kept], targets[kept]), (inputs[held], targets[held]), (full.test_inputs, full.test_targets))


def network(seed: int) -> nn.Module:
    """Return the dense network as it starts."""
    generator = torch.Generator().manual_seed(seed)
    model = gs.models.mlp(SIZES, generator=generator)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_normal_(layer.weight, generator=generator)
    return model


def batches(num_rows: int, steps: int, seed: int) -> Iterator[Tensor]:
    """Yield the row numbers of each step."""
    generator = torch.Generator().manual_seed(seed)
    passes = (gs.data.batches(num_rows, batch_size=BATCH, generator=generator) for _ in repeat(None))
    for _, batch in zip(range(steps), chain.from_iterable(passes), strict=False):
        yield batch


def learn(model: nn.Module, inputs: Tensor, targets: Tensor, order: Iterator[Tensor]) -> Iterator[int]:
    """Train in place; yield the number of steps done after each."""
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
    for step, batch in enumerate(order, start=1):
        loss = nn.functional.cross_entropy(model(inputs[batch]), targets[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield step


@torch.no_grad()
def judge(model: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[float, float]:
    """Return loss and accuracy in per cent."""
    outputs = model(inputs)
    accuracy = 100 * float((outputs.argmax(1) == targets).float().mean())
    return float(nn.functional.cross_entropy(outputs, targets)), accuracy


def train(model: nn.Module, number: int, *, data: Rows, steps: int, seed: int) -> dict[str, float]:
    """Train one network; return test accuracies, the step of least validation loss, and the seconds it took."""
    start = time.perf_counter()
    trained = gs.to_sparse(model) if number and density(model) < SPARSE_BELOW else model
    least, early_step, early = math.inf, 0, copy.deepcopy(trained.state_dict())
    for step in learn(trained, *data.train, batches(len(data.train[0]), steps, seed)):
        if step % CHECK_EVERY == 0 or step == steps:
            loss, _ = judge(trained, *data.validation)
            if loss < least:
                least, early_step, early = loss, step, copy.deepcopy(trained.state_dict())
    end = copy.deepcopy(trained.state_dict())
    accuracies = []
    for state in (early, end):
        trained.load_state_dict(state)
        accuracies.append(judge(trained, *data.test)[1])
    if trained is not model:
        model.load_state_dict(gs.to_dense(trained).state_dict())
    seconds = time.perf_counter() - start
    return {"early": accuracies[0], "end": accuracies[1], "early_step": early_step, "seconds": seconds}


def density(model: nn.Module) -> float:
    """Return the share of the weights that are not zero."""
    weights = [weight.parameter for weight in gs.prunable(model)]
    return sum(int(weight.count_nonzero()) for weight in weights) / sum(weight.numel() for weight in weights)


def storages_differ_by(*, steps: int = 50) -> float:
    """Train a masked network and the same one truly sparse, in float64: the largest difference of their weights."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(600, SIZES[0], generator=generator, dtype=torch.float64)
    targets = torch.randint(SIZES[-1], (600,), generator=generator)
    # Truly sparse from 10 % on: of the output layer 0.1^0.5 stays, as its fraction is half as large.
    masks = {
        name: torch.rand(shape, generator=generator) < (0.1 if shape[0] > SIZES[-1] else 0.3)
        for name, shape in ((weight.name, weight.shape) for weight in gs.prunable(network(0)))
    }
    trained: list[nn.Module] = []

    def both(model: nn.Module, number: int) -> None:
        trained.append(gs.to_sparse(model.double()))
        for each in (model, trained[0]):
            for _ in learn(each, inputs, targets, batches(len(inputs), steps, 0)):
                pass

    search = lottery_tickets(
        lambda: network(0).double(), both, num_rounds=1, sparsity_per_round=0.0, start_round=1, start_masks=masks
    )
    masked, sparse = next(search).model.state_dict(), gs.to_dense(trained[0]).state_dict()
    return max(float((masked[name] - sparse[name]).abs().max()) for name in masked)


def controls(ticket: Ticket, seed: int, fit: Callable[[nn.Module, int], Any]) -> dict[str, Any]:
    """Train the controls of a ticket; return what `train` gave for each by its name."""
    generator = torch.Generator().manual_seed(1000 * (seed + 1) + ticket.round)
    # A search that starts here, from a network made with another seed, trains the masks with other first values.
    other = lottery_tickets(
        lambda: network(1000 * (seed + 1) + ticket.round),
        fit,
        num_rounds=ticket.round,
        start_round=ticket.round,
        start_masks=ticket.masks,
    )
    return {
        REINIT: next(other).result,
        LIVE: reinitialized_ticket(lambda: network(seed), fit, ticket, generator=generator).result,
        SHUFFLED: shuffled_ticket(lambda: network(seed), fit, ticket, generator=generator).result,
    }


def search(seed: int, path: Path, data: Rows, options: argparse.Namespace, console: Console) -> None:
    """Do the rounds of a seed that the file lacks, and append each to it."""
    done = [record for record in read(path) if record["seed"] == seed]
    if len(done) > options.rounds:
        return
    tickets = lottery_tickets(
        partial(network, seed),
        fit := partial(train, data=data, steps=options.steps, seed=seed),
        num_rounds=options.rounds,
        start_round=len(done),
        start_masks=unpacked(done[-1]["next_masks"]) if done else None,
    )
    for ticket in tickets:
        results = {TICKET: ticket.result}
        if ticket.round and (ticket.round % options.controls_every == 0 or ticket.round == options.rounds):
            results |= controls(ticket, seed, fit)
        left = 100 * ticket.num_active / sum(mask.numel() for mask in ticket.masks.values())
        record = {"seed": seed, "round": ticket.round, "left": left, "results": results}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record | {"next_masks": packed(ticket.next_masks)}) + "\n")
        console.print(
            f"seed {seed}, round {ticket.round}, {left:.1f} % left: "
            + "; ".join(f"{name} {result['early']:.2f}" for name, result in results.items())
            + f" ({sum(result['seconds'] for result in results.values()):.0f} s)"
        )


def read(path: Path) -> list[dict[str, Any]]:
    """Return the finished rounds in their order; a line that was cut off as it was written is taken out of the file."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    return [json.loads(line) for line in whole.splitlines()]


def packed(masks: dict[str, Tensor]) -> dict[str, Any]:
    """Return masks as text: shape, and one bit for each entry."""
    return {
        name: [list(mask.shape), base64.b64encode(zlib.compress(np.packbits(mask.numpy()).tobytes())).decode()]
        for name, mask in masks.items()
    }


def unpacked(texts: dict[str, Any]) -> dict[str, Tensor]:
    """Return the masks again."""
    masks = {}
    for name, (shape, text) in texts.items():
        bits = np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8)
        masks[name] = torch.from_numpy(np.unpackbits(bits, count=math.prod(shape)).astype(bool)).view(shape)
    return masks


def values(records: list[dict[str, Any]], number: int, method: str, key: str) -> list[float]:
    """Return one number of a method in a round, for each seed that has it."""
    return [r["results"][method][key] for r in records if r["round"] == number and method in r["results"]]


def show(found: list[float]) -> str:
    """Return mean and deviation over seeds."""
    spread = f"±{statistics.stdev(found):.2f}" if len(found) > 1 else ""
    return f"{statistics.fmean(found):.2f}{spread}" if found else ""


def table(records: list[dict[str, Any]], key: str, title: str) -> Table:
    """Return test accuracies round by round."""
    result = Table(title=title, title_justify="left")
    for header in ("round", "left %", *METHODS, *(("step",) if key == "early" else ())):
        result.add_column(header, justify="right")
    for number in sorted({record["round"] for record in records}):
        left = statistics.fmean(record["left"] for record in records if record["round"] == number)
        cells = [show(values(records, number, method, key)) for method in METHODS]
        steps = [f"{statistics.fmean(values(records, number, TICKET, 'early_step')):.0f}"] if key == "early" else []
        result.add_row(f"{number}" if number else "dense", f"{left:.1f}", *cells, *steps)
    return result


def statements(records: list[dict[str, Any]]) -> Iterator[str]:
    """Say in numbers whether what the paper found was found."""
    left = {record["round"]: record["left"] for record in records}
    number = min(left, key=lambda one: abs(left[one] - PUBLISHED_LEFT))
    if abs(left[number] - PUBLISHED_LEFT) > 0.5:
        yield f"no round has about {PUBLISHED_LEFT} % of the weights, the nearest {left[number]:.1f}; do more --rounds"
        return
    for key, when in (("early", "at least validation loss"), ("end", "at the end")):
        dense, ticket = (values(records, at, TICKET, key) for at in (0, number))
        off, allowed = statistics.fmean(ticket) - statistics.fmean(dense), tolerance(dense, ticket)
        yield (
            f"{when}, the ticket at {left[number]:.1f} % equals dense: {verdict(off >= -allowed)} "
            f"(ticket - dense {off:+.2f} points, allowed -{allowed:.2f})"
        )
        for method in METHODS[1:]:
            if control := values(records, number, method, key):
                off, allowed = statistics.fmean(control) - statistics.fmean(ticket), tolerance(control, ticket)
                yield (
                    f"{when}, {method} falls below the ticket: {verdict(off < -allowed)} "
                    f"({method} - ticket {off:+.2f} points, more than {allowed:.2f} counts)"
                )


def tolerance(*found: list[float]) -> float:
    """Return the deviation over seeds, the larger one, or POINTS where that is more."""
    return max(POINTS, *(statistics.stdev(each) if len(each) > 1 else 0.0 for each in found))


def verdict(holds: bool) -> str:
    """Return a word for it."""
    return "yes" if holds else "NO"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=18)
    parser.add_argument("--controls-every", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("lottery"))
    options = parser.parse_args()
    if min(options.steps, options.seeds, options.controls_every) < 1 or options.rounds < 0:
        parser.error("--steps, --seeds and --controls-every are 1 or more, --rounds 0 or more")
    if options.threads:
        torch.set_num_threads(options.threads)
    console = Console()
    console.print(describe_machine())
    difference = storages_differ_by()
    console.print(f"masked and truly sparse, 50 steps in float64: the weights differ by {difference:.0e} at most")
    if difference > 1e-9:
        raise SystemExit("masked and truly sparse training differ; this must not be")
    data = rows()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"steps-{options.steps}.jsonl"
    for seed in range(options.seeds):
        search(seed, path, data, options, console)
    records = [one for one in read(path) if one["seed"] < options.seeds and one["round"] <= options.rounds]
    title = f"test accuracy, {options.steps} steps, {options.seeds} seeds, "
    console.print(table(records, "early", title + "at the step of least validation loss"))
    console.print(table(records, "end", title + "at the end"))
    seconds = sum(result["seconds"] for record in records for result in record["results"].values())
    console.print(f"training took {seconds:.0f} s")
    for line in statements(records):
        console.print(line, highlight=False)


if __name__ == "__main__":
    main()
