"""DeepR: deep rewiring."""

import torch
from torch import nn
from torch.optim import Optimizer

from gossamer import budgets
from gossamer.recipes.set_ import grow_at_random
from gossamer.recipes.start import sparse_start
from gossamer.sparsifier import Sparsifier
from gossamer.updates import Rewire


def deep_r(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    strength: float,
    temperature: float,
    stop_step: int,
    generator: torch.Generator,
    sparsity: float | None = None,
    budget: budgets.Budget = budgets.uniform,
) -> Sparsifier:
    """Train sparse from the start: weights keep their signs, and one that would change it is replaced at random.

    w = sign * theta; theta <- theta - lr sign dL/dw - lr strength + sqrt(2 lr temperature) noise, at every step
    theta < 0: the weight is dropped, and any absent weight of the model grows at zero with a random sign

    Args:
        model: truly sparse, or dense (then weights are masked).
        optimizer: holds the model's parameters.
            Its learning rate is that of the formula; its step may be of any kind.
        strength: of the L1 penalty, >= 0.
        temperature: of the noise, >= 0; 0: only gradient and penalty rewire.
        stop_step: the last update comes before this step.
        generator: source of randomness, on the CPU.
        sparsity: fraction of the dense weights to remove, in [0, 1); None for a truly sparse model.
        budget: splits what is kept over the dense weights at the start; later only the total is fixed.

    Raises:
        ValueError: dense weights without a sparsity, a sparsity that has no effect, a setting out of range, or an unfit
            optimizer.

    Source:
        Bellec, Kappel, Maass, Legenstein. Deep rewiring: training very sparse deep networks. ICLR 2018,
        arXiv:1711.05136.
        Differs: a weight that grows draws a new sign; in the paper every possible weight has one for good, which takes
        dense memory. The gradient step is that of the optimizer, penalty and noise follow it.

    Cost: O(active) at every step, and one byte for each active weight.
    """
    update = Rewire(strength=strength, temperature=temperature, grow=grow_at_random, stop_step=stop_step)
    weights = sparse_start(model, optimizer, sparsity=sparsity, budget=budget, generator=generator)
    return Sparsifier(weights, optimizer, updates=[update], generator=generator)
