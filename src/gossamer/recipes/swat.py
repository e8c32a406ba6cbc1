"""SWAT: sparse weights in both passes, sparse activations in the backward pass, dense updates."""

import torch
from torch import nn
from torch.optim import Optimizer

from gossamer import budgets, counts
from gossamer.recipes.dnw import choose_largest, start_with_largest
from gossamer.recipes.sparse_backward import find_layers, forget_small_inputs_
from gossamer.recipes.start import dense_start
from gossamer.sparsifier import Sparsifier


def swat(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    sparsity: float,
    activation_sparsity: float | None = None,
    stop_step: int | None = None,
    update_every: int = 1,
    budget: budgets.Budget | None = budgets.uniform,
) -> Sparsifier:
    """Compute with the largest weights; take the weights' gradient from the largest activations; update all weights.

    forward: y = x (m w)^T, m = largest |w|
    backward: dL/dx = dL/dy (m w);  dL/dw = dL/dy^T (n x), n = largest |x| of the layer's whole input, over the batch

    Of its input a layer stores between the passes what n keeps: values and places. The forward pass, and so the
    trained network, has dense activations. Here the products are dense: stored activations become fewer, operations
    do not.

    Args:
        model: dense; its weights are masked from now on. Weights of Linear and Conv alone, unless activation_sparsity
            is 0.
        optimizer: holds the model's parameters; it moves absent weights too.
        sparsity: fraction of the weights that is absent at any time, in [0, 1).
        activation_sparsity: fraction of each layer's inputs that its weight's gradient does without, in [0, 1);
            default: sparsity, as in the paper.
        stop_step: step at which weights are chosen for the last time, >= 1; None: they always are. Activations are
            sparse in the backward pass until the sparsifier is finalized.
        update_every: steps between two choices of weights.
        budget: splits what is kept over the weights. None: all weights compete with one another.

    Raises:
        ValueError: a weight is truly sparse or of another kind of layer, a sparsity outside [0, 1), stop_step or
            update_every below 1, or an unfit optimizer.

    Source:
        Raihan, Aamodt. Sparse weight activation training. NeurIPS 2020, arXiv:2007.14556.
        Differs: the largest are found exactly at each choice; the authors' code finds a threshold now and then and
        uses it in between. Biases have their dense gradient.

    Cost: the memory of one more dense copy of the weights; a selection among the inputs of each layer and step.
    """
    activation_sparsity = counts.check_sparsity(sparsity if activation_sparsity is None else activation_sparsity)
    update = choose_largest(sparsity=sparsity, stop_step=stop_step, update_every=update_every, budget=budget)
    if activation_sparsity:
        # Before anything is changed.
        find_layers(model, dense_start(model, optimizer))
    weights = start_with_largest(model, optimizer, sparsity=sparsity, budget=budget)
    for layer, weight in find_layers(model, weights) if activation_sparsity else []:
        forget_small_inputs_(layer, weight, activation_sparsity)
    return Sparsifier(weights, optimizer, updates=[update], generator=torch.Generator())
