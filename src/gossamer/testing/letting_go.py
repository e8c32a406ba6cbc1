"""Check that a recipe lets go of model and optimizer."""

from torch import nn
from torch.optim import Optimizer

from gossamer.testing.run import begin_on, make_model, train_step
from gossamer.testing.trial import Trial, seeded
from gossamer.weights import MaskedWeight

HOOKS = (
    *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
    *("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks", "_post_accumulate_grad_hooks"),
)


def check_finalize(trial: Trial) -> None:
    """Check that `finalize()` takes all hooks away, leaves the zeros and the modules, and ends the sparsifier.

    Args:
        trial: the recipe.

    Raises:
        ConformanceError: a hook stays, a zero is gone, a module is another, or `step()` goes on.
    """
    generator = seeded(0)
    model = make_model(trial, generator)
    before, types = _hooks(model), [type(module) for module in model.modules()]
    run = begin_on(trial, model, generator)
    for step in range(1, trial.num_steps + 1):
        train_step(run, step)
    run.sparsifier.finalize()
    run.optimizer.zero_grad()
    if trial.promise.finish is not None:
        trial.promise.finish(model)
    if (left := _hooks(model, run.optimizer)) != before:
        raise trial.fault("finalize() leaves no hook: how many there are", expected=before, found=left)
    for weight in run.sparsifier.weights:
        if isinstance(weight, MaskedWeight) and bool(weight.parameter.detach()[~weight.mask].any()):
            stray = int(weight.parameter.detach()[~weight.mask].count_nonzero())
            raise trial.fault("finalize() keeps zeros: others", expected=0, found=stray, weight=weight.name)
    if (found := [type(module) for module in model.modules()]) != types:
        raise trial.fault("finalize() leaves the modules that there were", expected=types, found=found)
    try:
        run.sparsifier.step()
    except RuntimeError:
        return
    raise trial.fault("step() after finalize()", expected="RuntimeError", found="nothing")


def _hooks(model: nn.Module, *optimizers: Optimizer) -> int:
    return sum(
        len(getattr(one, name, None) or ())
        for one in (*model.modules(), *model.parameters(), *optimizers)
        for name in HOOKS
    )
