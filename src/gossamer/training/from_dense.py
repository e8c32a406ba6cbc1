"""Methods whose networks start dense and become sparse while they train: each wired into a run."""

import math

import torch
from torch import nn
from torch.optim import Optimizer

from gossamer import recipes
from gossamer.sparsifier import Sparsifier
from gossamer.training.plan import Plan
from gossamer.weights import prunable


def gmp(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    """Start `recipes.gmp`."""
    return recipes.gmp(
        model,
        optimizer,
        sparsity=plan.sparsity,
        start_step=plan.num_steps // 10,
        stop_step=max(plan.num_steps // 10 + 1, plan.stop_step(plan.num_steps * 3 // 4)),
        update_every=plan.update_every,
        budget=plan.budget,
    )


def granet(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    """Start `recipes.granet`, from a dense network."""
    return recipes.granet(
        model,
        optimizer,
        sparsity=plan.sparsity,
        stop_step=max(1, plan.stop_step(plan.num_steps * 3 // 4)),
        generator=plan.generator,
        update_every=plan.update_every,
        drop_fraction=plan.drop_fraction,
    )


def top_kast(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    """Start `recipes.top_kast`."""
    # Twice as many weights learn as compute, and the penalty is a small one: both ours. With many more, those that
    # nobody hears run away between two choices, and the loss jumps when they come in together.
    return recipes.top_kast(
        model,
        optimizer,
        sparsity=plan.sparsity,
        backward_sparsity=max(0.0, 2.0 * plan.sparsity - 1.0),
        strength=1e-4,
        stop_step=plan.stop_step(plan.num_steps),
        update_every=plan.update_every,
        budget=plan.budget,
    )


def dsd(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    """Start `recipes.dsd`."""
    # Three phases of one length. The paper trains each until it settles, and the last with a tenth of the learning
    # rate; --decay cosine comes near that.
    stop_step = max(2, plan.stop_step(plan.num_steps * 2 // 3))
    # A single step has no room for a sparse phase and a dense one after it: then both lie beyond the end.
    start_step = stop_step // 2 if plan.num_steps > 1 else stop_step
    return recipes.dsd(
        model,
        optimizer,
        sparsity=plan.sparsity,
        start_step=start_step,
        stop_step=max(stop_step, start_step + 1),
        budget=plan.budget,
    )


def iht(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    """Start `recipes.iht`."""
    # A quarter dense, as the paper starts from a trained network; then phases of one length, and sparse from three
    # quarters on. The lengths are ours.
    start_step, stop_step = _span(plan, plan.num_steps // 4, plan.num_steps * 3 // 4)
    return recipes.iht(
        model,
        optimizer,
        sparsity=plan.sparsity,
        start_step=start_step,
        stop_step=stop_step,
        num_sparse_steps=plan.update_every,
        num_dense_steps=plan.update_every,
        budget=plan.budget,
    )


def ac_dc(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    """Start `recipes.ac_dc`."""
    # As on ImageNet in the paper: of 100 epochs 10 dense, then phases of 5, and none but sparse ones from 85 on.
    start_step, stop_step = _span(plan, plan.num_steps // 10, plan.num_steps * 85 // 100)
    return recipes.ac_dc(
        model,
        optimizer,
        sparsity=plan.sparsity,
        start_step=start_step,
        stop_step=stop_step,
        num_sparse_steps=plan.update_every,
        num_dense_steps=plan.update_every,
    )


def dns(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    """Start `recipes.dns`."""
    # As on LeNet-5 in the paper and its code: 10,000 dense steps, then 16,000, with surgery in the first 14,000.
    stop_step = plan.stop_step(plan.num_steps * 24 // 26)
    return recipes.dns(
        model,
        optimizer,
        deviations=_deviations(model, plan.sparsity),
        start_step=min(plan.num_steps * 10 // 26, stop_step),
        stop_step=stop_step,
        update_every=plan.update_every,
    )


def dpf(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    """Start `recipes.dpf`."""
    # As sparse as asked at half of the training, chosen for the last time at three quarters; ours, but for the 16
    # steps between two choices.
    stop_step = plan.stop_step(plan.num_steps * 3 // 4)
    return recipes.dpf(
        model,
        optimizer,
        sparsity=plan.sparsity,
        full_step=min(max(1, plan.num_steps // 2), stop_step),
        stop_step=stop_step,
        update_every=plan.update_every,
    )


def dnw(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    """Start `recipes.dnw`."""
    return recipes.dnw(
        model, optimizer, sparsity=plan.sparsity, stop_step=plan.stop_step(plan.num_steps), budget=plan.budget
    )


def swat(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    """Start `recipes.swat`, activations as sparse as weights."""
    return recipes.swat(
        model,
        optimizer,
        sparsity=plan.sparsity,
        stop_step=plan.stop_step(plan.num_steps),
        update_every=plan.update_every,
        budget=plan.budget,
    )


def dropback(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    """Start `recipes.dropback` so that it ends with a sparse network."""
    # Decay by 0.9 as in the authors' code, zero from half of the training on; what is tracked is fixed at three
    # quarters. Both places are ours.
    return recipes.dropback(
        model,
        optimizer,
        sparsity=plan.sparsity,
        generator=plan.generator,
        init_decay=0.9,
        freeze_step=plan.stop_step(plan.num_steps * 3 // 4),
        zero_step=max(1, plan.num_steps // 2),
    )


def _span(plan: Plan, start_step: int, stop_step: int) -> tuple[int, int]:
    """First and last turn of phases, an empty span stretched to one step."""
    stop_step = max(2, plan.stop_step(stop_step))
    return min(max(1, start_step), stop_step - 1), stop_step


def _deviations(model: nn.Module, sparsity: float) -> float:
    """Where the threshold lies that would hide this fraction of the fresh weights."""
    if not sparsity:
        return -math.inf
    sizes = [weight.values().float().abs().flatten() for weight in prunable(model)]
    off = torch.cat([(size - size.mean()) / size.std(correction=0).clamp(min=1e-30) for size in sizes])
    rank = max(1, round(sparsity * off.numel()))
    return float(off.kthvalue(rank).values)
