"""MEST: memory-economic sparse training, with an elastic number of mutations."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer import budgets, counts, schedules
from gossamer.recipes.set_ import grow_at_random
from gossamer.recipes.start import sparse_start
from gossamer.sparsifier import Sparsifier
from gossamer.updates import GrowFirst, JointUpdate, Redistribute, Update
from gossamer.weights import Weight


def mest(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    update_every: int,
    stop_step: int,
    drop_fraction: float,
    grad_factor: float,
    generator: torch.Generator,
    sparsity: float | None = None,
    soft_bound: bool = False,
    budget: budgets.Budget = budgets.uniform,
) -> Sparsifier:
    """Train sparse from the start: drop where value and gradient are small, grow at random, ever fewer.

    score = |w| + grad_factor |dL/dw|
    fraction(t) = drop_fraction / 2 * (1 + cos(pi t / stop_step)) of each weight

    Args:
        model: truly sparse, or dense (then weights are masked).
        optimizer: holds the model's parameters; zero_grad() comes after `sparsifier.step()`.
        update_every: steps between two updates.
        stop_step: the last update comes before this step; with a soft bound after it.
        drop_fraction: fraction exchanged at first, in [0, 1].
        grad_factor: lambda, >= 0.
        generator: source of randomness, on the CPU.
        sparsity: fraction of the dense weights to remove, in [0, 1); None for a truly sparse model.
        soft_bound: whether weights are grown beyond the count, learn, and are then dropped back to it (EM&S of the
            paper), which takes the memory of the surplus until `stop_step`; else they are exchanged (EM).
        budget: splits what is kept over the dense weights.

    Raises:
        ValueError: dense weights without a sparsity, a sparsity that has no effect, a setting out of range, or an unfit
            optimizer.

    Source:
        Yuan, Ma, Niu, Li, Kong, Liu, Gong, Zhan, He, Jin, Wang, Qin, Ren, Wang, Lin, Wang. MEST: accurate and fast
        memory-economic sparse training framework on the edge. NeurIPS 2021, arXiv:2110.14032.
        Differs: the fraction falls along a cosine, in the paper by steps.
    """
    if not 0.0 <= grad_factor < float("inf"):
        raise ValueError(f"grad_factor must be 0 or more and finite, got {grad_factor}")
    counts.check_fraction(drop_fraction, name="drop_fraction")
    fraction = schedules.cosine(drop_fraction, 0.0, stop_step)

    def score(weight: Weight) -> Tensor:
        return weight.values().float().abs() + grad_factor * weight.gradient().float().abs()

    update: Update | JointUpdate = Redistribute(
        drop=score, grow=grow_at_random, drop_fraction=fraction, update_every=update_every, stop_step=stop_step
    )
    if soft_bound:
        update = GrowFirst(
            drop=score, grow=grow_at_random, surplus_fraction=fraction, update_every=update_every, stop_step=stop_step
        )
    weights = sparse_start(model, optimizer, sparsity=sparsity, budget=budget, generator=generator)
    return Sparsifier(weights, optimizer, updates=[update], generator=generator)
