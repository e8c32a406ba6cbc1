"""Edge-popup: random weights that never change, and learned scores that say which of them exist."""

import math

import torch
from torch import Tensor, nn

from gossamer import budgets
from gossamer.recipes.learned_masks import TopScores, freeze_and_mask_


def edge_popup_(
    model: nn.Module, *, sparsity: float, generator: torch.Generator, budget: budgets.Budget = budgets.uniform
) -> None:
    """Freeze all of a model and let it learn which weights exist, with one trained score for each.

    forward: w where the score is among the k largest of the tensor, else 0
    backward: dL/ds = dL/dw' * w, whether the weight exists or not

    Make the optimizer afterwards, of the parameters that are trained: `[p for p in model.parameters() if
    p.requires_grad]`. End with `finish_`.

    Args:
        model: dense, with first values; the paper does best where all of a layer have one size and random signs.
        sparsity: fraction of the weights that do not exist, in [0, 1).
        generator: source of randomness for the first scores, on the CPU.
        budget: splits what is kept over the weights; the paper takes the same sparsity for each.

    Raises:
        ValueError: sparsity outside [0, 1), a truly sparse layer, a weight shared with a layer that has no mask, or
            the model is masked so already.

    Example:
        >>> model = nn.Sequential(nn.Linear(8, 4, bias=False))
        >>> edge_popup_(model, sparsity=0.75, generator=torch.Generator().manual_seed(0))
        >>> int((model[0].weight != 0).sum()), [name for name, p in model.named_parameters() if p.requires_grad]
        (8, ['0.parametrizations.weight.0.scores'])

    Source:
        Ramanujan, Wortsman, Kembhavi, Farhadi, Rastegari. What's hidden in a randomly weighted neural network? CVPR
        2020, arXiv:1911.13299.
        Differs: biases and norms are frozen as they are, the paper has none; the weights keep the values they have.
    """

    def score(name: str, weight: Tensor, kept: int) -> nn.Module:
        bound = 1 / math.sqrt(max(1, weight[0].numel()))
        unit = torch.rand(weight.shape, generator=generator, dtype=torch.float64, device="cpu")
        return TopScores(((2 * unit - 1) * bound).to(weight), kept)

    freeze_and_mask_(model, score, sparsity=sparsity, budget=budget)
