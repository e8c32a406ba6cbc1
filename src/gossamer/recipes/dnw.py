"""DNW: discover neural wirings, the largest edges of a dense network that learns as a whole."""

import torch
from torch import nn
from torch.optim import Optimizer

from gossamer import budgets, counts, criteria, schedules
from gossamer.recipes.start import dense_start
from gossamer.sparsifier import Sparsifier
from gossamer.updates import Reselect
from gossamer.updates.select import keep_best
from gossamer.weights import MaskedWeight

# No run gets there.
_NEVER = 1 << 62


def dnw(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    sparsity: float,
    stop_step: int | None = None,
    budget: budgets.Budget | None = budgets.uniform,
) -> Sparsifier:
    """Compute with the largest weights alone, train all of them, and choose the largest anew after every step.

    forward: m w, m = largest |w|;  w <- w - lr dL/d(m w), for edges that exist and those that do not

    An absent edge gets the gradient that it would have if it were there, and takes the place of one that has become
    smaller than it. What is sparse is the network of every step, forward and backward; the values of all edges are
    stored, and the gradient is dense.

    Args:
        model: dense; its weights are masked from now on.
        optimizer: holds the model's parameters; it moves absent weights too, weight decay and momentum included.
        sparsity: fraction that does not exist at any time, in [0, 1).
        stop_step: step at which edges are chosen for the last time, >= 1; None: they always are.
        budget: splits what is kept over the weights. None: all weights compete with one another.

    Raises:
        ValueError: a weight is truly sparse, sparsity outside [0, 1), stop_step below 1, or an unfit optimizer.

    Source:
        Wortsman, Farhadi, Rastegari. Discovering neural wirings. NeurIPS 2019, arXiv:1906.00586.
        Differs: layers keep their neurons, as in the paper's section on sparse networks; it also wires one neuron with
        any other. `dpf` is the same with rarer choices and a sparsity that rises.

    Cost: the memory of one more dense copy.
    """
    update = choose_largest(sparsity=sparsity, stop_step=stop_step, update_every=1, budget=budget)
    weights = start_with_largest(model, optimizer, sparsity=sparsity, budget=budget)
    return Sparsifier(weights, optimizer, updates=[update], generator=torch.Generator())


def start_with_largest(
    model: nn.Module, optimizer: Optimizer, *, sparsity: float, budget: budgets.Budget | None
) -> list[MaskedWeight]:
    """Return the prunable weights of a dense model, masked but for the largest, and trained along out of sight.

    Raises:
        ValueError: see `dnw`. Nothing is changed then.
    """
    counts.check_sparsity(sparsity)
    weights = dense_start(model, optimizer)
    kept = [
        keep_best(
            weight,
            weights,
            score=lambda one: criteria.magnitude(one.parameter.detach()),
            sparsity=sparsity,
            budget=budget,
        )
        for weight in weights
    ]
    for weight, mask in zip(weights, kept, strict=True):
        weight.keep_latent_(trained=True)
        weight.set_mask_(mask)
    return weights


def choose_largest(
    *, sparsity: float, stop_step: int | None, update_every: int, budget: budgets.Budget | None
) -> Reselect:
    """Return the update that chooses the largest of all values anew; see `dnw` for the arguments.

    Raises:
        ValueError: stop_step or update_every is below 1.
    """
    if stop_step is not None:
        counts.check_positive(stop_step, name="stop_step")
    return Reselect(
        drop=criteria.magnitude,
        sparsity=schedules.constant(sparsity),
        budget=budget,
        start_step=0,
        stop_step=_NEVER if stop_step is None else stop_step,
        update_every=update_every,
    )
