"""A run of a trial: what trains together, its steps, and what checks read of it."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer import budgets, masks
from gossamer.nn import to_sparse
from gossamer.sparsifier import Sparsifier
from gossamer.testing.trial import Trial, seeded
from gossamer.weights import MaskedWeight, Weight, prunable

Topologies = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What trains together.

    Attributes:
        trial: what it is a run of.
        model, optimizer, sparsifier: as the recipe left them.
    """

    trial: Trial
    model: nn.Module
    optimizer: Optimizer
    sparsifier: Sparsifier


def make_model(trial: Trial, generator: torch.Generator) -> nn.Module:
    """Make the network of a trial, truly sparse if it is to be."""
    model = trial.network.make(generator)
    if trial.storage == "masked":
        return model
    weights = prunable(model)
    kept = budgets.uniform({weight.name: weight.shape for weight in weights}, sparsity=trial.sparsity)
    for weight in weights:
        if isinstance(weight, MaskedWeight):
            weight.set_mask_(masks.draw(weight.shape, kept[weight.name], generator=generator))
    return to_sparse(model)


def begin(trial: Trial, *, seed: int = 0) -> Run:
    """Make the network and start the recipe on it."""
    generator = seeded(seed)
    return begin_on(trial, make_model(trial, generator), generator)


def begin_on(trial: Trial, model: nn.Module, generator: torch.Generator) -> Run:
    """Start the recipe on a model."""
    optimizer = trial.optimizer(model)
    sparsity = trial.sparsity if trial.storage == "masked" else None
    sparsifier = trial.start(model, optimizer, generator=generator, sparsity=sparsity)
    return Run(trial=trial, model=model, optimizer=optimizer, sparsifier=sparsifier)


def loss_at(run: Run, step: int, *, rank: int = 0) -> Tensor:
    """Return the loss of the batch that belongs to a step, from two calls of the model."""
    shape, dtype = run.trial.network.batch_shape, next(run.model.parameters()).dtype
    inputs = torch.randn(shape, generator=seeded(1000 + step + 100_000 * rank)).to(dtype)
    loss: Tensor = torch.zeros((), dtype=dtype)
    for half in inputs.split(shape[0] // 2):
        outputs = run.model(half)
        loss = loss + outputs.pow(2).mean() + outputs.mean()
    return loss


def backward(run: Run, step: int) -> None:
    """Take the gradient of the batch that belongs to a step."""
    run.optimizer.zero_grad()
    loss_at(run, step).backward()


def train_step(run: Run, step: int) -> None:
    """Train for one step; the first is step 1."""
    backward(run, step)
    run.optimizer.step()
    run.sparsifier.step()


def topologies(run: Run) -> Topologies:
    """Return the linear indices of the active entries by weight."""
    return {weight.name: weight.indices() for weight in run.sparsifier.weights}


def apart(expected: Sequence[int], found: Sequence[int]) -> tuple[str, str]:
    """Return words for two lists of active entries: how many, and which of them the other has not."""
    return _words(expected, found), _words(found, expected)


def _words(mine: Sequence[int], theirs: Sequence[int]) -> str:
    others = set(theirs)
    return f"{len(mine)} active entries with {[entry for entry in mine if entry not in others]}"


def everything(run: Run) -> bytes:
    """Return the whole state of a run as a file."""
    file = io.BytesIO()
    model, optimizer, sparsifier = run.model.state_dict(), run.optimizer.state_dict(), run.sparsifier.state_dict()
    torch.save({"model": model, "optimizer": optimizer, "sparsifier": sparsifier}, file)
    return file.getvalue()


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield path and value of all that a nest of dicts, lists and tuples holds."""
    if isinstance(value, Mapping):
        for key in value:
            yield from leaves(value[key], f"{path}/{key}")
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for number, item in enumerate(value):
            yield from leaves(item, f"{path}/{number}")
    else:
        yield path, value


def state_of(weight: Weight, optimizer: Optimizer) -> dict[str, Any]:
    """Return what the optimizer keeps for a weight, by path."""
    return dict(leaves(optimizer.state.get(weight.parameter, {})))


def by_entry(weight: Weight, optimizer: Optimizer) -> dict[str, Tensor]:
    """Return values and optimizer state of the active entries in the order of their indices, by path."""
    shape = weight.parameter.shape
    state = {path: leaf for path, leaf in state_of(weight, optimizer).items() if is_by_entry(leaf, shape)}
    tensors = {"values": weight.parameter.detach(), **state}
    if not isinstance(weight, MaskedWeight):
        return {path: tensor.clone() for path, tensor in tensors.items()}
    return {path: tensor[weight.mask] for path, tensor in tensors.items()}


def is_by_entry(leaf: Any, shape: torch.Size) -> bool:
    """Return whether a piece of state has a number for each entry of a parameter of this shape."""
    return isinstance(leaf, Tensor) and leaf.shape == shape


def same(one: Any, other: Any) -> bool:
    """Compare two leaves bit for bit; NaN equals itself."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        return torch.equal(one, other) or bool(((one == other) | (one.isnan() & other.isnan())).all())
    return type(one) is type(other) and bool(one == other)


def first_difference(one: Any, other: Any, ask: Callable[[Any, Any], bool] = same) -> tuple[str, Any, Any] | None:
    """Return the path and both leaves where two nests differ first; None: nowhere."""
    mine, theirs = dict(leaves(one)), dict(leaves(other))
    for path in [*mine, *(path for path in theirs if path not in mine)]:
        if path not in mine or path not in theirs or not ask(mine[path], theirs[path]):
            return path, mine.get(path, "nothing"), theirs.get(path, "nothing")
    return None


def same_state(run: Run, file: bytes, rule: str, step: int) -> None:
    """Raise unless the whole state of a run is that of a file from `everything`, bit for bit."""
    expected, found = (torch.load(io.BytesIO(one), weights_only=True) for one in (file, everything(run)))
    if difference := first_difference(expected, found):
        raise run.trial.fault(f"{rule}: {difference[0]}", expected=difference[1], found=difference[2], step=step)
