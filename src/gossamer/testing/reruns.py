"""Checks that compare two runs: resumed and whole, the same seed twice, with and without skipped steps."""

import io
from collections.abc import Sequence

import torch
from torch import Tensor

from gossamer.neurons import fit_
from gossamer.testing.run import Run, apart, begin, everything, loss_at, same, same_state, train_step
from gossamer.testing.trial import Trial

SCALE = 4.0

Seen = dict[str, tuple[Tensor, Tensor]]


def check_resume(trial: Trial, *, saved_at: Sequence[int] = (2, 3, 4, 5, 7, 12)) -> None:
    """Check that a resumed run equals the one without a break, bit for bit.

    The states of model, optimizer and sparsifier pass through a file that is loaded with `weights_only=True` into
    objects made anew with another seed; two orders of loading take turns.

    Args:
        trial: the recipe.
        saved_at: steps after which a run breaks off; those beyond the end of the trial are left out.

    Raises:
        ConformanceError: the two differ.
    """
    whole, files, seen = begin(trial), {}, {}
    for step in range(1, trial.num_steps + 1):
        train_step(whole, step)
        seen[step], files[step] = _see(whole), everything(whole) if step in (*saved_at, trial.num_steps) else b""
    for start in [step for step in saved_at if step < trial.num_steps]:
        resumed = begin(trial, seed=100 + start)
        _load(resumed, files[start], backwards=bool(start % 2))
        same_state(resumed, files[start], f"what was saved after step {start} comes back", start)
        for step in range(start + 1, trial.num_steps + 1):
            train_step(resumed, step)
            _same_weights(
                resumed, seen[step], f"resumed after step {start}, the run goes on as if it never broke", step
            )
        same_state(resumed, files[trial.num_steps], f"resumed after step {start}, the run ends alike", trial.num_steps)


def check_seed(trial: Trial) -> None:
    """Check that the generator decides the run, and that torch's global one is left alone.

    Args:
        trial: the recipe.

    Raises:
        ConformanceError: two runs of one seed differ, or the global generator was drawn from.
    """
    state = torch.get_rng_state()
    first, second = begin(trial, seed=1), begin(trial, seed=1)
    for step in range(1, min(8, trial.num_steps) + 1):
        train_step(first, step)
        # Whoever draws from the global generator all the same must not find it where the first run did.
        torch.rand(1)
        train_step(second, step)
        _same_weights(second, _see(first), "two runs with the same seed are the same run", step)
    torch.set_rng_state(state)
    begun = begin(trial, seed=1)
    for step in range(1, min(8, trial.num_steps) + 1):
        train_step(begun, step)
        if not torch.equal(torch.get_rng_state(), state):
            raise trial.fault(
                "nothing is drawn from torch's global generator", expected="its state as before", found="another",
                step=step,
            )  # fmt: skip


def check_skipped_steps(trial: Trial) -> None:
    """Check that steps which a GradScaler skips are not counted and leave no trace in the weights.

    Args:
        trial: the recipe.

    Raises:
        ConformanceError: they do.
    """
    clean, poisoned = begin(trial), begin(trial)
    scalers = [torch.amp.GradScaler("cpu", init_scale=SCALE) for _ in range(2)]
    for step in range(1, min(8, trial.num_steps) + 1):
        for factor in (float("inf"), float("nan")) if step in (2, 3, 6) else ():
            _scaled_step(poisoned, scalers[1], step, factor)
            if poisoned.sparsifier.num_steps != step - 1:
                raise trial.fault(
                    "a step that a GradScaler skips is not counted: num_steps", expected=step - 1,
                    found=poisoned.sparsifier.num_steps, step=step - 1,
                )  # fmt: skip
        _scaled_step(clean, scalers[0], step, 1.0)
        _scaled_step(poisoned, scalers[1], step, 1.0)
        _same_weights(poisoned, _see(clean), "a step that a GradScaler skips leaves no trace", step)


def _scaled_step(run: Run, scaler: torch.amp.GradScaler, step: int, factor: float) -> None:
    run.optimizer.zero_grad()
    scaler.scale(loss_at(run, step) * factor).backward()
    scaler.step(run.optimizer)
    # After a step that it skips it halves the scale: what remembers gradients must not notice.
    scaler.update()
    run.sparsifier.step()


def _see(run: Run) -> Seen:
    return {weight.name: (weight.indices().clone(), weight.values().clone()) for weight in run.sparsifier.weights}


def _same_weights(run: Run, expected: Seen, rule: str, step: int) -> None:
    for name, (places, values) in _see(run).items():
        theirs, values_expected = expected[name]
        if not same(places, theirs):
            words = apart(theirs.tolist(), places.tolist())
            raise run.trial.fault(rule, expected=words[0], found=words[1], step=step, weight=name)
        if not same(values, values_expected):
            slot = int((values != values_expected).nonzero()[0])
            raise run.trial.fault(
                rule,
                expected=f"{float(values_expected[slot])!r} at entry {int(places[slot])}",
                found=f"{float(values[slot])!r}, and {int((values != values_expected).sum())} values differ in all",
                step=step,
                weight=name,
            )


def _load(run: Run, file: bytes, *, backwards: bool) -> None:
    saved = torch.load(io.BytesIO(file), weights_only=True)
    # A recipe may have changed the sizes of hidden layers since the start.
    fit_(run.model, saved["model"], weights=run.sparsifier.weights)
    parts = [("model", run.model), ("optimizer", run.optimizer), ("sparsifier", run.sparsifier)]
    for name, part in reversed(parts) if backwards else parts:
        part.load_state_dict(saved[name])  # type: ignore[attr-defined]
