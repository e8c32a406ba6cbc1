"""Checks of which weights exist: how many, when that changes, and that what is absent is zero."""

from collections.abc import Sequence

import torch

from gossamer.testing.run import Run, Topologies, apart, backward, begin, topologies, train_step
from gossamer.testing.trial import Trial
from gossamer.weights import MaskedWeight, Weight, numel


def check_counts(trial: Trial) -> None:
    """Check that after every step exactly as many weights are active as the recipe promises.

    Args:
        trial: the recipe.

    Raises:
        ConformanceError: another number is.
    """
    run = begin(trial)
    before = _counts(run, 0)
    for step in range(1, trial.num_steps + 1):
        train_step(run, step)
        found = _counts(run, step)
        _compare(trial, step, before, found)
        before = found


def check_steps(trial: Trial) -> None:
    """Check that topologies change in `sparsifier.step()` alone, and after the promised steps alone.

    Args:
        trial: the recipe.

    Raises:
        ConformanceError: one changed at another time, or did not where it should.
    """
    run, promise = begin(trial), trial.promise
    before = topologies(run)
    for step in range(1, trial.num_steps + 1):
        backward(run, step)
        run.optimizer.step()
        _check_same(trial, before, topologies(run), "the topology changes in sparsifier.step() alone", step)
        run.sparsifier.step()
        found = topologies(run)
        if promise.due is not None and step not in promise.due:
            _check_same(trial, before, found, f"the topology changes after steps {sorted(promise.due)} alone", step)
        elif promise.due is not None and step not in promise.may_rest and _changed(before, found) is None:
            raise trial.fault("an update changes a topology", expected="a change", found="none", step=step)
        before = found


def check_zeros(trial: Trial) -> None:
    """Check that no dropped weight comes back, whatever the optimizer does, and that places are in order.

    Args:
        trial: the recipe.

    Raises:
        ConformanceError: an absent weight is not zero, or places and values do not fit one another.
    """
    run = begin(trial)
    for step in range(trial.num_steps + 1):
        if step:
            backward(run, step)
            run.optimizer.step()
            for weight in run.sparsifier.weights:
                _check_absent(run, weight, step, "after optimizer.step()")
            run.sparsifier.step()
        for weight in run.sparsifier.weights:
            _check_places(run, weight, step)
            _check_absent(run, weight, step, "after sparsifier.step()")


def _counts(run: Run, step: int) -> dict[str, int]:
    counts = {weight.name: weight.num_active for weight in run.sparsifier.weights}
    if run.sparsifier.num_active() != sum(counts.values()):
        raise run.trial.fault(
            "num_active() is the sum over the weights",
            expected=sum(counts.values()),
            found=run.sparsifier.num_active(),
            step=step,
        )
    return counts


def _compare(trial: Trial, step: int, before: dict[str, int], found: dict[str, int]) -> None:
    law, free = trial.promise.counts, step in trial.promise.counts_change_at
    expected: Sequence[int] | int | None
    if isinstance(law, str):
        kept = list(before.values()) if law == "per weight" else sum(before.values())
        expected = None if free else kept
    else:
        expected = law(step)
    if isinstance(expected, int):
        if sum(found.values()) != expected:
            raise trial.fault(
                f"the number of active weights of {', '.join(found)} together",
                expected=expected,
                found=f"{sum(found.values())}, of each {list(found.values())}",
                step=step,
            )
    elif expected is not None:
        for (name, number), wanted in zip(found.items(), expected, strict=True):
            if number != wanted:
                raise trial.fault("the number of active weights", expected=wanted, found=number, step=step, weight=name)


def _check_same(trial: Trial, before: Topologies, found: Topologies, rule: str, step: int) -> None:
    if name := _changed(before, found):
        expected, instead = apart(before[name].tolist(), found[name].tolist())
        raise trial.fault(rule, expected=expected, found=instead, step=step, weight=name)


def _changed(before: Topologies, found: Topologies) -> str | None:
    """Return the first weight whose topology is another, or None."""
    return next((name for name in found if not torch.equal(before[name], found[name])), None)


def _check_absent(run: Run, weight: Weight, step: int, when: str) -> None:
    if not isinstance(weight, MaskedWeight):
        return
    dense = weight.parameter.detach().flatten()
    absent = torch.ones_like(dense, dtype=torch.bool).index_fill_(0, weight.indices(), False)
    stray = (absent & (dense != 0)).nonzero().flatten()
    if stray.numel():
        raise run.trial.fault(
            f"absent weights are zero {when}",
            expected=0.0,
            found=f"{float(dense[stray[0]]):.3g} at entry {int(stray[0])}, and {stray.numel()} such entries in all",
            step=step,
            weight=weight.name,
        )


def _check_places(run: Run, weight: Weight, step: int) -> None:
    indices = weight.indices()
    sizes = {indices.numel(), weight.values().numel(), weight.num_active}
    if not isinstance(weight, MaskedWeight):
        sizes.add(weight.parameter.numel())
    if len(sizes) != 1:
        raise run.trial.fault(
            "indices, values and num_active agree", expected="one number", found=sizes, step=step, weight=weight.name
        )
    fit = bool((indices.diff() > 0).all()) and bool(((indices >= 0) & (indices < numel(weight))).all())
    if not fit:
        raise run.trial.fault(
            "linear indices ascend within the weight",
            expected=f"in [0, {numel(weight)})",
            found=indices.tolist(),
            step=step,
            weight=weight.name,
        )
