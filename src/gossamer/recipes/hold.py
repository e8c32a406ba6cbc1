"""Hold: what is zero now stays zero, for training on after a one-shot pruning."""

import torch
from torch import nn
from torch.optim import Optimizer

from gossamer.sparsifier import Sparsifier
from gossamer.weights import MaskedWeight, SparseWeight, prunable


def hold(model: nn.Module, optimizer: Optimizer) -> Sparsifier:
    """Train on with the topology that the model has now: zeros of dense weights stay zero.

    Args:
        model: dense with zeros (then weights are masked, tables of embeddings too), truly sparse (then the topology
            just stays), or mixed.
        optimizer: holds the model's parameters.

    Raises:
        ValueError: nothing is sparse in the model, or an unfit optimizer.

    Source:
        Han, Pool, Tran, Dally. Learning both weights and connections for efficient neural networks. NIPS 2015,
        arXiv:1506.02626.
    """
    padding = _zero_by_padding(model)
    weights = [weight for weight in prunable(model, embeddings=True) if id(weight.parameter) not in padding]
    masks = {weight.name: weight.parameter.detach() != 0 for weight in weights if isinstance(weight, MaskedWeight)}
    some_zero = any(not bool(mask.all()) for mask in masks.values())
    if not some_zero and not any(isinstance(weight, SparseWeight) for weight in weights):
        raise ValueError(
            f"no weight of {type(model).__name__} is zero, so there is nothing to hold; prune the model first"
        )
    sparsifier = Sparsifier(weights, optimizer, updates=[], generator=torch.Generator())
    for weight in weights:
        if isinstance(weight, MaskedWeight):
            weight.set_mask_(masks[weight.name])
    return sparsifier


def _zero_by_padding(model: nn.Module) -> set[int]:
    """The tables without a zero but those of their padding, which nobody pruned."""
    found = set()
    for module in model.modules():
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            zero = module.weight.detach() == 0
            if module.padding_idx is not None:
                zero[module.padding_idx] = False
            if not bool(zero.any()):
                found.add(id(module.weight))
    return found
