"""Truly Sparse Neural Networks at Scale: SET with importance pruning, for networks with All-ReLU."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer import budgets
from gossamer.nn import AllReLU, SparseLinear
from gossamer.recipes.set_ import set_update
from gossamer.recipes.start import sparse_start
from gossamer.sparsifier import Sparsifier
from gossamer.updates import RemoveNeurons
from gossamer.weights import Weight, prunable

# Between two linear layers these leave neuron j where it is and treat it alone.
_ELEMENTWISE = (
    AllReLU,
    nn.ReLU,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Sigmoid,
    nn.Tanh,
    nn.Dropout,
    nn.Identity,
)


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
    budget: budgets.Budget = budgets.er,
) -> Sparsifier:
    """Evolve the topology as SET does and, late in training, remove the weakest hidden neurons with all their weights.

    Args:
        model: truly sparse, or dense (then weights are masked); activations by `nn.AllReLU`, see `models.mlp`.
        optimizer: holds the model's parameters.
        update_every: steps between two exchanges; the paper takes one epoch.
        stop_step: the last update comes before this step.
        prune_start_step: step of the first removal of neurons; the authors' code: 40 % of the training.
        generator: source of randomness, on the CPU.
        sparsity: fraction of the dense weights to remove, in [0, 1); None for a truly sparse model.
        drop_fraction: zeta, see `set_`, in [0, 1].
        prune_every: steps between two removals; default: ten times update_every.
        neuron_fraction: fraction of a layer's remaining neurons that goes at each removal, in [0, 1].
        budget: splits what is kept over the dense weights.

    Raises:
        ValueError: dense weights without a sparsity, a sparsity that has no effect, or an unfit optimizer.

    Source:
        Curci, Mocanu, Pechenizkiy. Truly Sparse Neural Networks at Scale. 2021, arXiv:2102.01732.
        Differs: a removed neuron stays removed, and its outgoing weights go too where the next layer is known (linear
        layers in one nn.Sequential with element-wise modules between); in the authors' code growth fills it again.
    """
    exchange = set_update(update_every=update_every, stop_step=stop_step, drop_fraction=drop_fraction)
    removal = RemoveNeurons(
        neuron_fraction=neuron_fraction,
        start_step=prune_start_step,
        stop_step=stop_step,
        update_every=10 * update_every if prune_every is None else prune_every,
        readers=_readers(model, prunable(model)),
    )
    weights = sparse_start(model, optimizer, sparsity=sparsity, budget=budget, generator=generator)
    return Sparsifier(weights, optimizer, updates=[exchange, removal], generator=generator)


def _readers(model: nn.Module, weights: Sequence[Weight]) -> dict[str, str | None]:
    """For each weight but the last, which is the output, the weight that surely reads it, if there is one."""
    names = {id(weight.parameter): weight.name for weight in weights}
    readers: dict[str, str | None] = {weight.name: None for weight in weights[:-1]}
    for container in model.modules():
        if isinstance(container, nn.Sequential):
            for source, target in _linear_pairs(container):
                pair = names.get(id(source)), names.get(id(target))
                if pair[0] in readers and pair[1] is not None:
                    readers[pair[0]] = pair[1]
    return readers


def _linear_pairs(container: nn.Sequential) -> list[tuple[Tensor, Tensor]]:
    """Weights that follow one another with nothing but element-wise modules between."""
    pairs: list[tuple[Tensor, Tensor]] = []
    last: Tensor | None = None
    for module in container:
        if isinstance(module, (nn.Linear, SparseLinear)):
            weight = module.values if isinstance(module, SparseLinear) else module.weight
            if last is not None:
                pairs.append((last, weight))
            last = weight
        elif not isinstance(module, _ELEMENTWISE):
            last = None
    return pairs
