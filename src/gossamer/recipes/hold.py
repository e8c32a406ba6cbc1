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
        ValueError: nothing is sparse in the model, a pruned embedding has sparse gradients, or an unfit optimizer.

    Source:
        Han, Pool, Tran, Dally. Learning both weights and connections for efficient neural networks. NIPS 2015,
        arXiv:1506.02626.
    """
    weights = prunable(model)
    known, pruned = {id(weight.parameter) for weight in weights}, _pruned_tables(model)
    weights += [one for one in prunable(model, embeddings=True) if id(one.parameter) in pruned - known]
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


def _pruned_tables(model: nn.Module) -> set[int]:
    """The tables of embeddings that have a zero; padding is zero without that anybody pruned it."""
    found = set()
    for path, module in model.named_modules():
        if not isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            continue
        zero = module.weight.detach() == 0
        if module.padding_idx is not None:
            zero[module.padding_idx] = False
        if bool(zero.any()) and module.weight.requires_grad:
            if module.sparse:
                raise ValueError(f"{path} has sparse gradients, which cannot be masked; make it with sparse=False")
            found.add(id(module.weight))
    return found
