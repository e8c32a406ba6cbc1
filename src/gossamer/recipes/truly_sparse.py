"""Truly Sparse Neural Networks at Scale: SET with importance pruning, for networks with All-ReLU."""

import dataclasses

import torch
from torch import nn
from torch.optim import Optimizer

from gossamer import budgets
from gossamer.neurons import find_hidden
from gossamer.recipes.readers import find_readers
from gossamer.recipes.set_ import set_update
from gossamer.recipes.start import sparse_start
from gossamer.sparsifier import Sparsifier
from gossamer.updates import RemoveNeurons
from gossamer.updates.remove_neurons import check_alone
from gossamer.weights import prunable


def truly_sparse(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    update_every: int,
    stop_step: int,
    prune_start_step: int,
    generator: torch.Generator,
    sparsity: float | None = None,
    drop_fraction: float = 0.3,
    prune_every: int | None = None,
    neuron_fraction: float = 0.1,
    compact: bool = True,
    budget: budgets.Budget = budgets.er,
) -> Sparsifier:
    """Evolve the topology as SET does and, late in training, remove the weakest hidden neurons with all their weights.

    A removed neuron leaves behind what it passes on without incoming weights, f(bias), in the bias of its reader. The
    layers become smaller in place, masked or truly sparse, and every step after it faster; to go on from a saved state,
    see `gossamer.neurons.fit_`.

    Args:
        model: truly sparse, or dense (then weights are masked); activations by `nn.AllReLU`, see `models.mlp`.
        optimizer: holds the model's parameters.
        update_every: steps between two exchanges; the paper takes one epoch.
        stop_step: the last update comes before this step.
        prune_start_step: step of the first removal of neurons; the authors' code: 40 % of the training.
        generator: source of randomness, on the CPU.
        sparsity: fraction of the dense weights to remove, in [0, 1); None for a truly sparse model.
        drop_fraction: zeta, see `set_`, in [0, 1].
        prune_every: steps between two removals; default: ten times update_every, as in the authors' sequential program
            (the parallel one: twenty times).
        neuron_fraction: fraction of a layer's remaining neurons that goes at each removal, in [0, 1]; 0: none goes. The
            default is that of the authors' parallel program; the sequential one takes 0.2.
        compact: whether layers become smaller; else their sizes stay and removed neurons are closed, which computes the
            same, as several processes need it.
        budget: splits what is kept over the dense weights.

    Raises:
        ValueError: dense weights without a sparsity, a sparsity that has no effect, an unfit optimizer, or no hidden
            layer of which it is known who reads it.
        RuntimeError: layers should become smaller while several processes train together.

    Source:
        Curci, Mocanu, Pechenizkiy. Truly Sparse Neural Networks at Scale. 2021, arXiv:2102.01732.
        Differs: a removed neuron stays removed; in the authors' code its outgoing weights stay, which then carry the
        constant that is here in the bias, growth fills it again, and layers keep their size. Neurons go only where
        tracing the model shows which one layer reads them, see `readers.find_readers`.
    """
    readers = find_readers(model, prunable(model)) if neuron_fraction else {}
    if neuron_fraction and not readers:
        raise ValueError(
            f"{type(model).__name__} shows no two linear layers with only element-wise functions between, so no neuron "
            "can be removed; give neuron_fraction=0 to evolve the topology alone"
        )
    if neuron_fraction and compact:
        check_alone("give compact=False, and call gs.neurons.remove_dead_ on the trained model")
    exchange = set_update(update_every=update_every, stop_step=stop_step, drop_fraction=drop_fraction)
    removal = RemoveNeurons(
        neuron_fraction=neuron_fraction,
        start_step=prune_start_step,
        stop_step=stop_step,
        update_every=10 * update_every if prune_every is None else prune_every,
        readers=readers,
        compact=compact,
    )
    weights = sparse_start(model, optimizer, sparsity=sparsity, budget=budget, generator=generator)
    removal = dataclasses.replace(removal, hidden=find_hidden(model, weights) if readers else ())
    return Sparsifier(weights, optimizer, updates=[exchange, removal], generator=generator)
