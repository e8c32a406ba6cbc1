"""Top-KAST: always sparse training, with a larger set that learns than computes."""

import torch
from torch import nn
from torch.optim import Optimizer

from gossamer import budgets
from gossamer.recipes.start import dense_start
from gossamer.sparsifier import Sparsifier
from gossamer.updates import Superset


def top_kast(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    sparsity: float,
    backward_sparsity: float,
    strength: float,
    stop_step: int,
    update_every: int = 100,
    budget: budgets.Budget | None = budgets.uniform,
) -> Sparsifier:
    """Compute with the largest weights, and give the gradient at them to some more, which may so become large.

    A: the largest |w| at `sparsity`, B: at `backward_sparsity`, A among them
    w <- w - lr dL/dw(w in A) for w in B, then towards zero by lr * strength in A, by more in B without A

    Args:
        model: dense; its weights are masked, and keep the values of absent entries out of sight.
        optimizer: holds the model's parameters; it moves B alone, weight decay and momentum included.
        sparsity: of the forward set, in [0, 1).
        backward_sparsity: of the backward set, in [0, sparsity]. What learns and does not compute moves unheard until
            the next choice: the larger this set and the learning rate, the more often the sets must be chosen.
        strength: of the penalty |w| on A and |w| / (1 - sparsity) on B without A, >= 0.
        stop_step: the sets are chosen for the last time before this step; then they stay, and the penalty ends.
        update_every: steps between two choices; the paper: up to 100.
        budget: splits both sets over the weights. None: all weights compete with one another.

    Raises:
        ValueError: a weight is truly sparse, a setting out of range, or an unfit optimizer.

    Source:
        Jayakumar, Pascanu, Rae, Osindero, Elsen. Top-KAST: Top-K always sparse training. NeurIPS 2020,
        arXiv:2106.03517.
        Differs: the penalty is a proximal step after that of the optimizer, not a term of the loss. What leaves B loses
        its optimizer state.

    Cost: the memory of one more dense copy; passes are masked, so they take the time of dense ones.
    """
    update = Superset(
        sparsity=sparsity,
        backward_sparsity=backward_sparsity,
        budget=budget,
        strength=strength,
        update_every=update_every,
        stop_step=stop_step,
    )
    weights = dense_start(model, optimizer)
    for weight in weights:
        weight.keep_latent_(trained=True)
    # Nothing here is random.
    return Sparsifier(weights, optimizer, updates=[update], generator=torch.Generator())
