"""Check that an update which fails leaves nothing half-changed."""

from dataclasses import dataclass

import torch
from torch.optim import Optimizer

from gossamer.testing.run import Run, backward, begin, everything, same_state
from gossamer.testing.trial import Trial
from gossamer.updates import Change, JointUpdate, Update
from gossamer.weights import Weight


class _DeliberateError(RuntimeError):
    pass


@dataclass(frozen=True)
class _Fails:
    """An update that comes after the others, when they have changed all that they change, and fails."""

    others: tuple[Update | JointUpdate, ...]
    uses_gradient: bool = False

    def due(self, step: int) -> bool:
        return any(update.due(step) for update in self.others)

    def apply(
        self, weight: Weight, weights: list[Weight], step: int, *, optimizer: Optimizer, generator: torch.Generator
    ) -> Change:
        raise _DeliberateError


def check_failures(trial: Trial) -> None:
    """Check that a failing update takes all back: weights, optimizer state, what updates remember, steps counted.

    At every step at which updates are due another one comes last and fails. All is compared with what was before, bit
    for bit; then the step is taken again without the failure, and in the end the run is that which never failed.

    Args:
        trial: the recipe.

    Raises:
        ConformanceError: something is not as it was, or the run ends otherwise.
    """
    whole, tried = begin(trial), begin(trial)
    for step in range(1, trial.num_steps + 1):
        for run in (whole, tried):
            backward(run, step)
            run.optimizer.step()
        updates = tried.sparsifier._updates
        failing = _Fails(tuple(updates))
        if failing.due(step):
            before = everything(tried)
            _fail(tried, failing, step)
            same_state(tried, before, "a step that fails leaves all as it was", step)
        for run in (whole, tried):
            run.sparsifier.step()
    same_state(tried, everything(whole), "after steps that failed the run goes on as if none had", trial.num_steps)


def _fail(run: Run, failing: _Fails, step: int) -> None:
    run.sparsifier._updates.append(failing)
    try:
        run.sparsifier.step()
    except _DeliberateError:
        return
    finally:
        run.sparsifier._updates.pop()
    raise run.trial.fault("the error of an update comes out of step()", expected="it", found="nothing", step=step)
