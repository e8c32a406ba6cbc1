"""Soft DeepR: deep rewiring in which absent weights walk at random until they come back."""

import torch
from torch import nn
from torch.optim import Optimizer

from gossamer import budgets, counts
from gossamer.recipes.start import dense_start, sparse_start
from gossamer.sparsifier import Sparsifier
from gossamer.updates import SoftRewire
from gossamer.weights import MaskedWeight


def soft_deep_r(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    sparsity: float,
    strength: float,
    temperature: float,
    stop_step: int,
    generator: torch.Generator,
    lowest: float | None = None,
    budget: budgets.Budget = budgets.uniform,
) -> Sparsifier:
    """Train sparse from the start: weights keep their signs, sleep below zero, and wake when noise brings them back.

    w = sign * theta where theta >= 0, else absent
    theta >= 0: theta <- theta - lr sign dL/dw - lr strength + sqrt(2 lr temperature) noise
    theta < 0: theta <- max(lowest, theta + sqrt(2 lr temperature) noise)

    How many weights are active is not fixed: `num_active()` says how many are. Where the loss does not care, the
    default of `lowest` keeps as many on average as there were at the start; what the loss holds comes on top.

    Args:
        model: dense; its weights are masked.
        optimizer: holds the model's parameters.
            Its learning rate is that of the formula; its step may be of any kind.
        sparsity: fraction of the weights that is absent at the start, in (0, 1).
        strength: of the L1 penalty, >= 0; above 0 for the default of `lowest`.
        temperature: of the noise, >= 0; above 0 for the default of `lowest`.
        stop_step: the last update comes before this step.
        generator: source of randomness, on the CPU.
        lowest: theta_min, where the walk of absent weights ends, < 0. Default: -(temperature / strength) * sparsity /
            (1 - sparsity).
        budget: splits what is active at the start over the weights.

    Raises:
        ValueError: a weight is truly sparse, a setting out of range, or an unfit optimizer.

    Source:
        Bellec, Kappel, Maass, Legenstein. Deep rewiring: training very sparse deep networks. ICLR 2018,
        arXiv:1711.05136; there soft-DEEP R.
        Differs: absent weights start spread evenly over (lowest, 0], as the walk leaves them in the end. The gradient
        step is that of the optimizer, penalty and noise follow it. `deep_r` keeps the number of weights, and in memory
        only those.

    Cost: the memory of one more dense copy and a byte for each entry, and noise for every entry at every step.
    """
    if counts.check_sparsity(sparsity) == 0.0:
        raise ValueError("sparsity must lie in (0, 1), got 0.0; a weight that never sleeps needs no rewiring")
    if lowest is None:
        if not (strength > 0.0 and temperature > 0.0):
            raise ValueError(
                f"without a penalty and noise nothing keeps a sparsity, got strength={strength} and "
                f"temperature={temperature}; give both above 0, or lowest"
            )
        lowest = -(temperature / strength) * sparsity / (1.0 - sparsity)
    update = SoftRewire(strength=strength, temperature=temperature, lowest=lowest, stop_step=stop_step)
    dense_start(model, optimizer, because="this method moves every absent weight at every step")
    weights = sparse_start(model, optimizer, sparsity=sparsity, budget=budget, generator=generator)
    for weight in weights:
        if isinstance(weight, MaskedWeight):
            _lay_to_sleep_(weight, lowest, generator)
    return Sparsifier(weights, optimizer, updates=[update], generator=generator)


def _lay_to_sleep_(weight: MaskedWeight, lowest: float, generator: torch.Generator) -> None:
    """Give absent weights their places below zero and, by the sign of what they are worth there, their signs."""
    weight.keep_latent_(trained=False)
    places = lowest * torch.rand(weight.shape, generator=generator, device="cpu")
    places *= 2.0 * torch.randint(2, weight.shape, generator=generator, device="cpu") - 1.0
    weight.latent = places.to(weight.parameter.detach()).masked_fill(weight.mask, 0.0)
