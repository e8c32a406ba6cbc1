"""Methods whose networks are sparse from the first step: each wired into a run."""

from fractions import Fraction

from torch import nn
from torch.optim import Optimizer

from gossamer import recipes
from gossamer.sparsifier import Sparsifier
from gossamer.training.plan import Plan
from gossamer.weights import MaskedWeight, prunable

_LARGEST_GROUP = 32


def static(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    """Start `recipes.static`."""
    return recipes.static(model, optimizer, generator=plan.generator, sparsity=plan.start_sparsity, budget=plan.budget)


def set_(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    """Start `recipes.set_`."""
    return recipes.set_(
        model,
        optimizer,
        update_every=plan.update_every,
        # After every epoch but the last, as in the paper.
        stop_step=plan.stop_step(plan.num_steps - plan.steps_per_epoch + 1),
        generator=plan.generator,
        sparsity=plan.start_sparsity,
        drop_fraction=plan.drop_fraction,
        budget=plan.budget,
    )


def rigl(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    """Start `recipes.rigl`."""
    return recipes.rigl(
        model,
        optimizer,
        stop_step=plan.stop_step(plan.num_steps * 3 // 4),
        generator=plan.generator,
        sparsity=plan.start_sparsity,
        update_every=plan.update_every,
        drop_fraction=plan.drop_fraction,
        budget=plan.budget,
    )


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


def gse(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    """Start `recipes.gse`."""
    return recipes.gse(
        model,
        optimizer,
        stop_step=plan.stop_step(plan.num_steps * 3 // 5),
        generator=plan.generator,
        sparsity=plan.start_sparsity,
        update_every=plan.update_every,
        drop_fraction=plan.drop_fraction,
        budget=plan.budget,
    )


def srigl(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    """Start `recipes.srigl`."""
    return recipes.srigl(
        model,
        optimizer,
        stop_step=plan.stop_step(plan.num_steps * 3 // 4),
        generator=plan.generator,
        sparsity=plan.start_sparsity,
        update_every=plan.update_every,
        drop_fraction=plan.drop_fraction,
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


def dsr(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    """Start `recipes.dsr`."""
    return recipes.dsr(
        model,
        optimizer,
        update_every=plan.update_every,
        stop_step=plan.stop_step(plan.num_steps * 3 // 4),
        drop_fraction=plan.drop_fraction,
        generator=plan.generator,
        sparsity=plan.start_sparsity,
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


def set_itop(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    """Start `recipes.set_itop`."""
    return recipes.set_itop(
        model,
        optimizer,
        update_every=plan.update_every,
        stop_step=plan.stop_step(plan.num_steps),
        generator=plan.generator,
        sparsity=plan.start_sparsity,
        drop_fraction=plan.drop_fraction,
        budget=plan.budget,
    )


def rigl_itop(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    """Start `recipes.rigl_itop`."""
    return recipes.rigl_itop(
        model,
        optimizer,
        update_every=plan.update_every,
        stop_step=plan.stop_step(plan.num_steps),
        generator=plan.generator,
        sparsity=plan.start_sparsity,
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


def mest(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    """Start `recipes.mest`."""
    # Value and gradient count alike; ours.
    return recipes.mest(
        model,
        optimizer,
        update_every=plan.update_every,
        stop_step=plan.stop_step(plan.num_steps * 3 // 4),
        drop_fraction=plan.drop_fraction,
        grad_factor=1.0,
        generator=plan.generator,
        sparsity=plan.start_sparsity,
        budget=plan.budget,
    )


def hold(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    """Start `recipes.hold` on a network that was pruned before its first step."""
    weights = prunable(model)
    if all(isinstance(weight, MaskedWeight) and bool(weight.values().all()) for weight in weights):
        # At a sparsity of zero, or near it, nothing was pruned and there is nothing to hold.
        return Sparsifier(weights, optimizer, updates=[], generator=plan.generator)
    return recipes.hold(model, optimizer)
