"""DNS: dynamic network surgery, pruning that splices back what it should not have cut."""

import torch
from torch import nn
from torch.optim import Optimizer

from gossamer.recipes.start import dense_start
from gossamer.sparsifier import Sparsifier
from gossamer.updates import Surgery


def dns(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    deviations: float,
    stop_step: int,
    update_every: int,
    start_step: int = 0,
    margin: float = 0.1,
) -> Sparsifier:
    """Hide small weights, keep training them by the gradient of the pruned network, and splice back what grows large.

    t = max(0, mean |w| + deviations * std |w|) of each tensor, hidden values among it
    hidden below (1 - margin) t, active from (1 + margin) t on, between the two as before

    Args:
        model: dense, trained before; its weights are masked.
        optimizer: holds the model's parameters; it moves hidden weights too.
        deviations: where the threshold lies. The sparsity comes out of it and of the data; larger: sparser.
        stop_step: step of the last surgery; then the topology stays.
        update_every: steps between two surgeries.
        start_step: step of the first one.
        margin: half the width of the band in which nothing changes, as a part of the threshold, in [0, 1].

    Raises:
        ValueError: a weight is truly sparse, margin outside [0, 1], or an unfit optimizer.

    Source:
        Guo, Yao, Chen. Dynamic network surgery for efficient DNNs. NIPS 2016, arXiv:1608.04493.
        Differs: thresholds follow the weights; in the authors' code they stay what they were at the start. Surgeries
        come at regular steps, not at random ones that become rarer.

    Cost: the memory of one more dense copy.
    """
    update = Surgery(
        deviations=deviations, margin=margin, start_step=start_step, stop_step=stop_step, update_every=update_every
    )
    weights = dense_start(model, optimizer)
    for weight in weights:
        weight.keep_latent_(trained=True)
    return Sparsifier(weights, optimizer, updates=[update], generator=torch.Generator())
