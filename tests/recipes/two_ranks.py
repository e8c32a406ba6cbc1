"""Two processes that train together; started by test_ranks.py as `two_ranks.py FOLDER RANK`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD

from gossamer import Sparsifier, budgets, neurons, recipes
from gossamer.models import mlp

NUM_STEPS = 7


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def train(model: nn.Module, optimizer: SGD, sparsifier: Sparsifier, ranks: list[int]) -> list[Any]:
    """Train on the batches of these ranks, and return the topologies after each step."""
    seen = []
    for step in range(NUM_STEPS):
        inputs = [torch.randn(8, 10, generator=seeded(100 * step + rank), dtype=torch.float64) for rank in ranks]
        optimizer.zero_grad()
        model(torch.cat(inputs)).pow(2).mean().backward()
        optimizer.step()
        sparsifier.step()
        seen.append([weight.indices().tolist() for weight in sparsifier.weights])
    return seen


def network() -> nn.Sequential:
    return mlp([10, 16, 4], sparsity=0.6, budget=budgets.uniform, generator=seeded(0)).double()


def start(name: str, model: nn.Module, optimizer: SGD) -> Sparsifier:
    recipe = {"rigl": recipes.rigl, "gse": recipes.gse}[name]
    return recipe(model, optimizer, update_every=2, stop_step=20, drop_fraction=0.3, generator=seeded(0))


def together(name: str, rank: int) -> list[Any]:
    model = DistributedDataParallel(network())
    optimizer = SGD(model.parameters(), lr=0.05, momentum=0.9)
    return train(model, optimizer, start(name, model, optimizer), [rank])


def alone(name: str) -> list[Any]:
    model = network()
    optimizer = SGD(model.parameters(), lr=0.05, momentum=0.9)
    return train(model, optimizer, start(name, model, optimizer), [0, 1])


def set_with_seeds_of_their_own(rank: int) -> str:
    model = DistributedDataParallel(network())
    optimizer = SGD(model.parameters(), lr=0.05)
    sparsifier = recipes.set_(model, optimizer, update_every=2, stop_step=20, generator=seeded(rank))
    try:
        train(model, optimizer, sparsifier, [rank])
    except RuntimeError as error:
        return str(error)
    return ""


def neurons_together(rank: int) -> dict[str, Any]:
    """Remove neurons between two wrappings, and where it is refused."""
    found: dict[str, Any] = {}
    model = network()
    neurons.remove_(model, "0", torch.tensor([3, 5]))
    wrapped = DistributedDataParallel(model)
    optimizer = SGD(wrapped.parameters(), lr=0.05, momentum=0.9)
    found["trained"] = train(wrapped, optimizer, start("rigl", wrapped, optimizer), [rank])[-1]
    found["refused"] = refusal(lambda: neurons.remove_dead_(wrapped))
    found["differ"] = refusal(lambda: neurons.remove_(network(), "0", torch.tensor([rank])))
    masked = mlp([10, 16, 4], generator=seeded(0)).double()
    wrapped = DistributedDataParallel(masked)
    optimizer = SGD(wrapped.parameters(), lr=0.05)
    found["recipe"] = refusal(lambda: start_truly_sparse(wrapped, optimizer, compact=True))
    closed = start_truly_sparse(wrapped, optimizer, compact=False)
    train(wrapped, optimizer, closed, [rank])
    found["closed"] = closed.weights[0].closed_rows.tolist()
    return found


def start_truly_sparse(model: nn.Module, optimizer: SGD, *, compact: bool) -> Sparsifier:
    steps: dict[str, Any] = {"update_every": 2, "stop_step": 7, "prune_start_step": 3, "prune_every": 2}
    return recipes.truly_sparse(model, optimizer, sparsity=0.5, compact=compact, generator=seeded(0), **steps)


def refusal(call: Callable[[], object]) -> str:
    try:
        call()
    except (RuntimeError, TypeError) as error:
        return str(error)
    return ""


def main(folder: Path, rank: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found: dict[str, Any] = {name: together(name, rank) for name in ("rigl", "gse")}
    found["set"] = set_with_seeds_of_their_own(rank)
    found["neurons"] = neurons_together(rank)
    dist.destroy_process_group()
    if rank == 0:
        found["alone"] = {name: alone(name) for name in ("rigl", "gse")}
    (folder / f"{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
