"""Methods whose networks are sparse from the first step: each wired into a run."""

import functools
from collections.abc import Callable
from fractions import Fraction

from torch import nn
from torch.optim import Optimizer

from gossamer import recipes
from gossamer.sparsifier import Sparsifier
from gossamer.training.plan import Plan
from gossamer.weights import MaskedWeight, prunable

Make = Callable[[nn.Module, Optimizer, Plan], Sparsifier]

_LARGEST_GROUP = 32


def exchanging(recipe: Callable[..., Sparsifier], *, until: Callable[[Plan], int]) -> Make:
    """Return how a recipe that exchanges weights is wired into a run.

    Args:
        recipe: one of `recipes`.
        until: the step before which the last update comes, unless the plan says otherwise.
    """

    def make(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
        return recipe(
            model,
            optimizer,
            update_every=plan.update_every,
            stop_step=plan.stop_step(until(plan)),
            generator=plan.generator,
            sparsity=plan.start_sparsity,
            drop_fraction=plan.drop_fraction,
            budget=plan.budget,
        )

    return make


def _three_quarters(plan: Plan) -> int:
    return plan.num_steps * 3 // 4


# After every epoch but the last, as in the paper.
set_ = exchanging(recipes.set_, until=lambda plan: plan.num_steps - plan.steps_per_epoch + 1)
rigl = exchanging(recipes.rigl, until=_three_quarters)
srigl = exchanging(recipes.srigl, until=_three_quarters)
gse = exchanging(recipes.gse, until=lambda plan: plan.num_steps * 3 // 5)
dsr = exchanging(recipes.dsr, until=_three_quarters)
# Value and gradient count alike; ours.
mest = exchanging(functools.partial(recipes.mest, grad_factor=1.0), until=_three_quarters)
set_itop = exchanging(recipes.set_itop, until=lambda plan: plan.num_steps)
rigl_itop = exchanging(recipes.rigl_itop, until=lambda plan: plan.num_steps)


def static(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    """Start `recipes.static`."""
    return recipes.static(model, optimizer, generator=plan.generator, sparsity=plan.start_sparsity, budget=plan.budget)


def nest(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    """Start `recipes.nest`."""
    # Growth in the first half, pruning in the next quarter; then the topology stays.
    stop_step = max(2, plan.stop_step(plan.num_steps * 3 // 4))
    # In a run of one step what grew could not go again.
    prune_start_step = max(2, stop_step * 2 // 3) if plan.num_steps > 1 else 3
    return recipes.nest(
        model,
        optimizer,
        update_every=min(plan.update_every, prune_start_step - 1) if plan.num_steps > 1 else 2,
        prune_start_step=prune_start_step,
        stop_step=max(stop_step, prune_start_step),
        generator=plan.generator,
        sparsity=plan.start_sparsity,
        budget=plan.budget,
    )


def nm_rigl(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    """Start `recipes.nm_rigl` with the n of m that comes nearest to the sparsity."""
    # At most 32 inputs a group: more would say little about where the weights are.
    density = max(Fraction(1, _LARGEST_GROUP), Fraction(1.0 - plan.sparsity).limit_denominator(_LARGEST_GROUP))
    return recipes.nm_rigl(
        model,
        optimizer,
        stop_step=plan.stop_step(plan.num_steps * 3 // 4),
        generator=plan.generator,
        n=density.numerator,
        m=density.denominator,
        update_every=plan.update_every,
        drop_fraction=plan.drop_fraction,
    )


def truly_sparse(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    """Start `recipes.truly_sparse`."""
    return recipes.truly_sparse(
        model,
        optimizer,
        update_every=plan.update_every,
        stop_step=plan.stop_step(plan.num_steps - plan.steps_per_epoch + 1),
        # 40 % of the training, as in the authors' code; then five removals.
        prune_start_step=max(1, plan.num_steps * 2 // 5),
        prune_every=max(1, plan.num_steps // 10),
        generator=plan.generator,
        sparsity=plan.start_sparsity,
        drop_fraction=plan.drop_fraction,
        budget=plan.budget,
    )


def snfs(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    """Start `recipes.snfs`."""
    return recipes.snfs(
        model,
        optimizer,
        sparsity=plan.sparsity,
        update_every=plan.update_every,
        stop_step=plan.stop_step(plan.num_steps),
        generator=plan.generator,
        drop_fraction=plan.drop_fraction,
        budget=plan.budget,
    )


def deep_r(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    """Start `recipes.deep_r`."""
    # Penalty and noise are ours, for the learning rates of small networks; the paper searches both for each task.
    return recipes.deep_r(
        model,
        optimizer,
        strength=1e-4,
        temperature=1e-8,
        stop_step=plan.stop_step(plan.num_steps + 1),
        generator=plan.generator,
        sparsity=plan.start_sparsity,
        budget=plan.budget,
    )


def soft_deep_r(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    """Start `recipes.soft_deep_r`."""
    # Hotter than deep_r, so that absent weights lie deep enough for their number to stay near what was asked for.
    return recipes.soft_deep_r(
        model,
        optimizer,
        sparsity=plan.sparsity,
        strength=1e-4,
        temperature=1e-7,
        stop_step=plan.stop_step(plan.num_steps + 1),
        generator=plan.generator,
        budget=plan.budget,
    )


def hold(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    """Start `recipes.hold` on a network that was pruned before its first step."""
    weights = prunable(model)
    if all(isinstance(weight, MaskedWeight) and bool(weight.values().all()) for weight in weights):
        # At a sparsity of zero, or near it, nothing was pruned and there is nothing to hold.
        return Sparsifier(weights, optimizer, updates=[], generator=plan.generator)
    return recipes.hold(model, optimizer)
