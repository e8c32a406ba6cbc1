"""DropBack: a fixed number of weights is trained, all others are first values that a seed gives back."""

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.optim import Optimizer

from gossamer import budgets, counts
from gossamer.recipes.learned_masks import layers_with
from gossamer.recipes.seeded_values import SeededValues
from gossamer.recipes.start import dense_start
from gossamer.sparsifier import Sparsifier
from gossamer.updates.track import Track


def dropback(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    sparsity: float,
    generator: torch.Generator,
    freeze_step: int | None = None,
    init_decay: float = 1.0,
    zero_step: int | None = None,
    budget: budgets.Budget | None = None,
) -> Sparsifier:
    """Track the weights that moved farthest, and put all others back to their first value after every step.

    moved: |w - w_first| of a tracked weight, |step| of another; the largest are tracked
    w_first: drawn from a seed whenever it is needed, not stored

    This saves what is stored, not what is computed: the others are not zero but random numbers, and every product is
    dense. They are zero, and the network sparse, where init_decay and zero_step make them so. The number of active
    weights is that of the tracked ones: a checkpoint needs these, their places and a seed for each weight.

    The weights are parametrized: a layer's `parametrizations.weight.original` holds what is tracked and zeros. End
    with `gossamer.reparametrizations.finish_` on each layer, which leaves plain weights.

    Args:
        model: dense, of Linear and Conv layers. Its weights are drawn anew from seeds, uniformly and with the root mean
            square that each has now; biases and the like are kept and trained.
        optimizer: holds the model's parameters. What it remembers of weights that are not tracked is forgotten.
        sparsity: fraction that is not tracked, in [0, 1).
        generator: source of the seeds, on the CPU.
        freeze_step: after this step the same weights stay tracked, >= 1; None: they never are frozen.
        init_decay: the first values are multiplied by it after every step, in [0, 1]; the authors' code takes 0.9
            where it lets them decay.
        zero_step: after this step the first values are zero, >= 1; None: they only decay.
        budget: splits what is tracked over the weights. None, as in the paper: all compete with one another.

    Raises:
        ValueError: a weight is truly sparse or of another kind of layer, sparsity or init_decay out of range, a step
            below 1, or an unfit optimizer. Nothing is changed then.

    Source:
        Golub, Lemieux, Lis. Full deep neural network training on a pruned weight budget. MLSys 2019, arXiv:1806.06949.
        Differs: biases and normalisations are always trained; an exact number of weights; what decays does not count
        as movement.

    Cost: here, a dense copy while the optimizer steps, and drawing the first values in every pass.
    """
    counts.check_fraction(init_decay, name="init_decay")
    weights = dense_start(model, optimizer)
    layers = {weight.name: layers_with(model, weight.name, weight.parameter) for weight in weights}
    first: dict[str, SeededValues] = {}
    for weight in weights:
        seed = int(torch.randint(2**62, (), generator=generator, device="cpu"))
        size = float(weight.parameter.detach().double().square().mean().sqrt()) if weight.parameter.numel() else 0.0
        first[weight.name] = SeededValues(seed, size, decay=init_decay).to(weight.parameter.device)
    update = Track(first_values=first, sparsity=sparsity, budget=budget, freeze_step=freeze_step, zero_step=zero_step)
    for weight in weights:
        weight.parameter.data.zero_()
        weight.keep_latent_(trained=True)
    update.start_(weights)
    for name, modules in layers.items():
        for module in modules:
            parametrize.register_parametrization(module, "weight", first[name])
    return Sparsifier(weights, optimizer, updates=[update], generator=generator)
