"""One training of growth.py, and what is measured of it."""

import math
import statistics
import time
from typing import Any

import torch
from growth_networks import Ready, load, make_ready, num_weights
from growth_trials import Trial
from torch import Tensor
from torch.nn.functional import cross_entropy

import gossamer as gs
from gossamer.data import Dataset
from gossamer.sparsifier import Sparsifier
from gossamer.training import evaluate, renew_statistics_

# Larger networks are not followed: their weights ever active take a byte each.
MOST_FOLLOWED = 5_000_000


class Explored:
    """Which weights ever existed.

    Args:
        sparsifier: of the run; None: nothing is sparse.
        size: weights of the dense network.
    """

    def __init__(self, sparsifier: Sparsifier | None, size: int) -> None:
        self._weights = sparsifier.weights if sparsifier and size <= MOST_FOLLOWED else []
        self._size = size
        self._ever = [torch.zeros(math.prod(weight.shape), dtype=torch.bool) for weight in self._weights]
        self.look()

    def look(self) -> None:
        """Note those that exist now; layers that change their size are followed no longer."""
        if any(math.prod(weight.shape) != ever.numel() for weight, ever in zip(self._weights, self._ever, strict=True)):
            self._weights, self._ever = [], []
        for weight, ever in zip(self._weights, self._ever, strict=True):
            ever[weight.indices()] = True

    def share(self) -> float | None:
        """Return ITOP's R_s, the share of all weights that ever existed; None where nobody looked."""
        return sum(int(ever.sum()) for ever in self._ever) / self._size if self._ever else None


def run(trial: Trial) -> dict[str, Any]:
    """Train one network to its last step and return what came of it, or in which epoch its loss was no number."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trial.config.seed)
        dataset = load(trial)
        ready = make_ready(trial, dataset)
        size = num_weights(ready.model)
        explored = Explored(ready.sparsifier, size)
        curve: dict[int, float] = {}
        step_ms: list[list[float]] = []
        start = time.perf_counter()
        for epoch in range(1, trial.config.epochs + 1):
            try:
                step_ms.append(_pass(trial, dataset, ready, epoch - 1, explored))
            except FloatingPointError:
                return {"diverged": epoch}
            # 1, 2, 4, 8, ...: the end is what counts, the rest shows how fast it came.
            if epoch.bit_count() == 1 or epoch == trial.config.epochs:
                # Of all methods, those that change nothing too.
                renew_statistics_(ready.model, dataset, batch_size=trial.config.batch_size, seed=trial.config.seed)
                curve[epoch] = evaluate(ready.model, dataset)[1]
        seconds = time.perf_counter() - start
    return {
        "accuracy": curve[trial.config.epochs],
        "curve": curve,
        "num_active": ready.sparsifier.num_active() if ready.sparsifier else size,
        "num_weights": size,
        "num_tests": len(dataset.test_targets),
        "explored": explored.share(),
        "neurons": _neurons(ready),
        "first_step_ms": statistics.median(step_ms[0]),
        "last_step_ms": statistics.median(step_ms[-1]),
        "seconds": seconds,
    }


def _pass(trial: Trial, dataset: Dataset, ready: Ready, epoch: int, explored: Explored) -> list[float]:
    """Go once through the data; return the milliseconds of each step."""
    config, taken = trial.config, []
    order = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
    batches = list(gs.data.batches(len(dataset.train_inputs), batch_size=config.batch_size, generator=order))
    for number, rows in enumerate(batches, start=epoch * len(batches)):
        start = time.perf_counter()
        set_learning_rate(trial, ready, number)
        changed = step(dataset, ready, rows)
        taken.append(1000 * (time.perf_counter() - start))
        if changed:
            explored.look()
    return taken


def set_learning_rate(trial: Trial, ready: Ready, number: int) -> None:
    """Give the optimizer the learning rate of the step of this number, the first being 0."""
    if trial.config.decay == "cosine":
        for group in ready.optimizer.param_groups:
            group["lr"] = trial.config.learning_rate * (1 + math.cos(math.pi * number / ready.num_steps)) / 2


def step(dataset: Dataset, ready: Ready, rows: Tensor) -> bool:
    """Train on these rows; return whether a topology changed.

    Raises:
        FloatingPointError: the loss is no number.
    """
    loss = cross_entropy(ready.model(dataset.train_inputs[rows]), dataset.train_targets[rows])
    if not bool(loss.isfinite()):
        raise FloatingPointError(f"the loss is {float(loss.detach())}")
    ready.optimizer.zero_grad()
    loss.backward()
    ready.optimizer.step()
    return bool(ready.sparsifier and ready.sparsifier.step())


def _neurons(ready: Ready) -> int:
    """Return how many hidden neurons are left, counted where they are made."""
    weights = ready.sparsifier.weights if ready.sparsifier else gs.prunable(ready.model)
    return sum(int((~weight.closed_rows).sum()) for weight in weights[:-1])
