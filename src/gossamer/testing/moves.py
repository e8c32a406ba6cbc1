"""Check of what an update does to values and optimizer state: to survivors nothing, to grown weights a fresh start."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gossamer.testing.run import Run, backward, begin, by_entry, is_by_entry, same, state_of
from gossamer.testing.trial import Trial
from gossamer.updates import Change
from gossamer.weights import MaskedWeight, Weight


@dataclass(frozen=True, kw_only=True)
class Before:
    """What a weight was before an update.

    Attributes:
        indices: linear index of each active entry.
        by_entry: values and state of the active entries, by path.
        other: what else the optimizer kept, by path.
    """

    indices: Tensor
    by_entry: dict[str, Tensor]
    other: dict[str, Any]


def check_updates(trial: Trial) -> None:
    """Check what updates do to values and to the state of the optimizer, whatever its class.

    Grown weights start with the promised value and without state, survivors keep both bit for bit, and so do numbers
    that belong to no entry. A weight that an update drops and grows in one counts as grown, if the update says so.

    Args:
        trial: the recipe.

    Raises:
        ConformanceError: something moved, or was left behind.
    """
    run = begin(trial)
    for step in range(1, trial.num_steps + 1):
        backward(run, step)
        run.optimizer.step()
        old = [_look(run, weight) for weight in run.sparsifier.weights]
        changes = run.sparsifier.step()
        for weight, before in zip(run.sparsifier.weights, old, strict=True):
            if step in trial.promise.resizes_at:
                continue
            _check_weight(run, weight, before, [change for change in changes if change.name == weight.name], step)


def _look(run: Run, weight: Weight) -> Before:
    entries = by_entry(weight, run.optimizer)
    other = {path: leaf for path, leaf in state_of(weight, run.optimizer).items() if path not in entries}
    other = {path: leaf.clone() if isinstance(leaf, Tensor) else leaf for path, leaf in other.items()}
    return Before(indices=weight.indices().clone(), by_entry=entries, other=other)


def _check_weight(run: Run, weight: Weight, before: Before, changes: list[Change], step: int) -> None:
    now = _look(run, weight)
    if now.by_entry.keys() != before.by_entry.keys():
        raise run.trial.fault(
            "the optimizer's state follows the weight: a number for each entry before is one after",
            expected=list(before.by_entry),
            found=list(now.by_entry),
            step=step,
            weight=weight.name,
        )
    grown = ~torch.isin(now.indices, before.indices)
    _check_report(run, weight, before, now, changes, step)
    spare = grown.numel() if run.trial.promise.moves_survivors else _spare(changes, grown)
    reset = _check_survivors(run, weight, before, now, spare, step)
    fresh = grown.clone()
    if not run.trial.promise.moves_survivors:
        fresh[(~grown).nonzero().flatten()[reset]] = True
    _check_fresh(run, weight, now, fresh, step)
    resets = run.trial.promise.resets_state and bool(grown.any())
    for path, leaf in before.other.items():
        if not resets and not same(leaf, now.other.get(path)):
            raise run.trial.fault(
                f"an update leaves the state {path} alone",
                expected=leaf,
                found=now.other.get(path),
                step=step,
                weight=weight.name,
            )
    if changes:
        _check_gone(run, weight, step)


def _spare(changes: list[Change], grown: Tensor) -> int:
    """Return how many survivors the update says that it dropped and grew in one."""
    return sum(change.num_grown for change in changes) - int(grown.sum())


def _check_report(run: Run, weight: Weight, before: Before, now: Before, changes: list[Change], step: int) -> None:
    told = sum(change.num_grown - change.num_dropped for change in changes)
    found = now.indices.numel() - before.indices.numel()
    if told != found:
        raise run.trial.fault(
            "the changes that step() returns, grown less dropped", expected=found, found=told, step=step,
            weight=weight.name,
        )  # fmt: skip


def _check_survivors(run: Run, weight: Weight, before: Before, now: Before, spare: int, step: int) -> Tensor:
    """Return which of the survivors started anew, bool; raise if there are more than the update tells of."""
    here, there = torch.isin(now.indices, before.indices), torch.isin(before.indices, now.indices)
    moved = torch.zeros(int(here.sum()), dtype=torch.bool)
    state_resets = run.trial.promise.resets_state and not bool(here.all())
    for path, tensor in before.by_entry.items():
        if path != "values" and state_resets:
            continue
        was, found = tensor[there], now.by_entry[path][here]
        differs = (was != found) & ~(was.isnan() & found.isnan())
        moved |= differs
        if int(moved.sum()) > max(0, spare):
            place = int(differs.nonzero()[0]) if bool(differs.any()) else 0
            entry = int(now.indices[here][place])
            raise run.trial.fault(
                f"an update leaves {_called(path)} of survivors alone, bit for bit",
                expected=f"{float(was[place])!r} at entry {entry}",
                found=f"{float(found[place])!r}, and {int(differs.sum())} differ in all",
                step=step,
                weight=weight.name,
            )
    return moved


def _check_fresh(run: Run, weight: Weight, now: Before, fresh: Tensor, step: int) -> None:
    promise = run.trial.promise
    if promise.first_values is not None:
        places = now.indices[fresh]
        wanted = promise.first_values
        values = wanted(weight, places) if callable(wanted) else torch.full(places.shape, float(wanted))
        _compare_fresh(run, weight, "values", places, now.by_entry["values"][fresh], values, step)
    for path, tensor in now.by_entry.items():
        if path == "values" or promise.keeps_state:
            continue
        checked = torch.ones_like(fresh) if promise.resets_state and bool(fresh.any()) else fresh
        places = now.indices[checked]
        _compare_fresh(run, weight, path, places, tensor[checked], torch.zeros(places.shape), step)


def _compare_fresh(
    run: Run, weight: Weight, path: str, places: Tensor, found: Tensor, wanted: Tensor, step: int
) -> None:
    wrong = found != wanted.to(found)
    if bool(wrong.any()):
        place = int(wrong.nonzero()[0])
        raise run.trial.fault(
            f"{_called(path)} of a grown weight",
            expected=f"{float(wanted[place])!r} at entry {int(places[place])}",
            found=f"{float(found[place])!r}, and {int(wrong.sum())} such entries in all",
            step=step,
            weight=weight.name,
        )


def _check_gone(run: Run, weight: Weight, step: int) -> None:
    """What a dropped masked weight leaves in the optimizer would move it when it is grown again."""
    if not isinstance(weight, MaskedWeight) or run.trial.promise.keeps_state:
        return
    for path, leaf in state_of(weight, run.optimizer).items():
        if is_by_entry(leaf, weight.parameter.shape) and bool(leaf[~weight.mask].any()):
            stray = (leaf.masked_fill(weight.mask, 0).flatten() != 0).nonzero().flatten()
            raise run.trial.fault(
                f"an update clears {_called(path)} of what is absent",
                expected=f"0.0 at entry {int(stray[0])}",
                found=f"{float(leaf.flatten()[stray[0]])!r}, and {stray.numel()} such entries in all",
                step=step,
                weight=weight.name,
            )


def _called(path: str) -> str:
    return "the value" if path == "values" else f"the state {path}"
