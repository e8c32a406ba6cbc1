"""Supermasks: frozen weights under a mask that is drawn anew at each step, from learned probabilities."""

import math

import torch
from torch import Tensor, nn

from gossamer import budgets
from gossamer.recipes.learned_masks import Chance, freeze_and_mask_


def supermask_(model: nn.Module, *, generator: torch.Generator, first_probability: float = 0.5) -> None:
    """Freeze all of a model and let it learn, for each weight, the probability that it exists.

    train: w' = w m, m = 1 with probability sigmoid(v);  dL/dv = dL/dw' * w * sigmoid'(v)
    eval: w' = w where the probability is at least a half, else 0

    How many weights exist comes out of the training. Make the optimizer afterwards, of the parameters that are
    trained; its learning rate is large. End with `finish_`.

    Args:
        model: dense, with first values; the paper does best where all of a layer have one size.
        generator: source of randomness for the masks, on the CPU; its state is saved with that of the model.
        first_probability: of each weight, between 0 and 1.

    Raises:
        ValueError: a probability outside (0, 1), a truly sparse layer, a weight shared with a layer that has no mask,
            or the model is masked so already.

    Source:
        Zhou, Lan, Liu, Yosinski. Deconstructing lottery tickets: zeros, signs, and the supermask. NeurIPS 2019,
        arXiv:1905.01067.
        Differs: a fixed mask for evaluation, where the paper draws; weights are not rescaled by the share that exists.
    """
    if not 0.0 < first_probability < 1.0:
        raise ValueError(f"first_probability must lie between 0 and 1, got {first_probability}; 0.5 is even chance")
    logit = math.log(first_probability / (1 - first_probability))

    def score(name: str, weight: Tensor, kept: int) -> nn.Module:
        return Chance(torch.full_like(weight, logit), generator)

    freeze_and_mask_(model, score, sparsity=0.0, budget=budgets.uniform)
