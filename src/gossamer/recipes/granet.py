"""GraNet: gradual pruning over the whole model, with regeneration at every step of it."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer import budgets, counts, criteria, schedules
from gossamer.recipes.rigl import grow_by_gradient
from gossamer.recipes.start import sparse_start
from gossamer.sparsifier import Sparsifier, check_optimizer
from gossamer.updates import Exchange, ShrinkTogether
from gossamer.weights import Weight, numel, prunable


def granet(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    sparsity: float,
    stop_step: int,
    generator: torch.Generator,
    start_step: int = 0,
    start_sparsity: float | None = None,
    update_every: int = 1000,
    drop_fraction: float = 0.5,
    budget: budgets.Budget = budgets.erk,
) -> Sparsifier:
    """Remove the smallest weights of the whole model little by little, and each time exchange some of what is left.

    sparsity(t) = s + (s0 - s) (1 - (t - start_step) / (stop_step - start_step))^3
    fraction(t) = drop_fraction / 2 * (1 + cos(pi t / stop_step)), by magnitude and gradient in each weight

    Args:
        model: dense (then weights are masked), or truly sparse (then memory and time fall as it shrinks).
        optimizer: holds the model's parameters.
        sparsity: of all weights together in the end, in [0, 1).
        stop_step: step of the last removal, > start_step; the last exchange comes before it.
        generator: source of randomness, on the CPU.
        start_step: step from which weights are removed, >= 0.
        start_sparsity: s0 of a dense model, drawn at random, in [0, sparsity]; the paper: 0 or 0.5. None: the model
            starts as it is.
        update_every: steps between two updates.
        drop_fraction: fraction exchanged at first, in [0, 1].
        budget: splits what is kept over the dense weights at the start.

    Raises:
        ValueError: a model that is sparser than asked for, a start sparsity that has no effect, a setting out of range,
            or an unfit optimizer.

    Source:
        Liu, Chen, Chen, Atashgahi, Yin, Kou, Shen, Pechenizkiy, Wang, Mocanu. Sparse training via boosting pruning
        plasticity with neuroregeneration. NeurIPS 2021, arXiv:2106.10404.
        Differs: each weight keeps its largest entry. A weight dropped and grown in one update stays as it was.
    """
    weights = prunable(model)
    check_optimizer(weights, optimizer)
    active, full = sum(weight.num_active for weight in weights), sum(numel(weight) for weight in weights)
    first = counts.sparsity_of(active, full) if start_sparsity is None else start_sparsity
    if not first <= counts.check_sparsity(sparsity):
        raise ValueError(
            f"the model starts at a sparsity of {first:.6g} and is to end at {sparsity}; give a higher one, or start "
            "from a denser model"
        )
    shrink = ShrinkTogether(
        drop=_magnitude,
        sparsity=schedules.cubic(first, sparsity, start_step=start_step, stop_step=stop_step),
        start_step=start_step,
        stop_step=stop_step,
        update_every=update_every,
    )
    exchange = Exchange(
        drop=criteria.magnitude,
        grow=grow_by_gradient,
        drop_fraction=schedules.cosine(drop_fraction, 0.0, stop_step),
        update_every=update_every,
        start_step=start_step,
        stop_step=stop_step,
        keep_regrown=True,
        uses_gradient=True,
    )
    if start_sparsity:
        weights = sparse_start(model, optimizer, sparsity=start_sparsity, budget=budget, generator=generator)
    return Sparsifier(weights, optimizer, updates=[shrink, exchange], generator=generator)


def _magnitude(weight: Weight) -> Tensor:
    return criteria.magnitude(weight.values())
