"""NeST: a small network grows weights and neurons where the gradient asks for them, and is then pruned."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer import budgets, counts, criteria, growth
from gossamer.neurons import HiddenLayer, find_hidden
from gossamer.neurons.bridge import bridge_
from gossamer.neurons.grow import mean_fan_out
from gossamer.recipes.start import sparse_start
from gossamer.sparsifier import Sparsifier
from gossamer.updates import GrowNeurons, GrowWeights, RemoveDeadNeurons, ShrinkTo, Update
from gossamer.updates.remove_neurons import check_alone
from gossamer.weights import MaskedWeight, Weight, prunable


def nest(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    update_every: int,
    prune_start_step: int,
    stop_step: int,
    generator: torch.Generator,
    sparsity: float | None = None,
    grow_fraction: float = 0.2,
    neuron_fraction: float = 0.05,
    budget: budgets.Budget = budgets.er,
) -> Sparsifier:
    """Grow weights and hidden neurons by the gradient, then drop the smallest weights and the neurons that die of it.

    In the first phase each update activates the absent weights of the largest gradient, then adds to every hidden layer
    neurons that join the inputs and outputs which the loss would join, see `neurons.bridge`; the function does not
    jump. In the second the weights of each tensor go back, in equal parts, to as many as there were at the start, and
    neurons without incoming or outgoing weights leave their layers, masked or truly sparse. To go on from a saved
    state, see `gossamer.neurons.fit_`.

    Args:
        model: truly sparse, or dense (then weights are masked): the seed.
        optimizer: holds the model's parameters.
        update_every: steps between two updates of a phase.
        prune_start_step: first update of the second phase; the first phase begins at update_every and ends before it.
        stop_step: step of the last update, >= prune_start_step.
        generator: source of randomness, on the CPU.
        sparsity: fraction of the dense weights to remove at the start, in [0, 1); None for a truly sparse model.
        grow_fraction: weights that grow at an update, as a fraction of the active ones, in [0, 1].
        neuron_fraction: neurons that grow at an update, as a fraction of the layer's, in [0, 1].
        budget: splits what is kept over the dense weights.

    Raises:
        ValueError: dense weights without a sparsity, a sparsity that has no effect, an unfit optimizer, steps out of
            order, or no hidden layer of which it is known who reads it.
        RuntimeError: several processes train together: layers change their size.

    Source:
        Dai, Yin, Jha. NeST: a neural network synthesis tool based on a grow-and-prune paradigm. IEEE Transactions on
        Computers 2019, arXiv:1711.02017.
        Differs: numbers are fractions of what is active, not of what is absent; grown weights start at 0, not at the
        learning rate times the gradient, and so do outgoing weights of new neurons; weights are dropped by magnitude
        alone, in equal parts, down to the number at the start. What grows how fast is not fixed by the paper: the two
        fractions are ours.
    """
    check_alone("train in one process")
    if not find_hidden(model, prunable(model)):
        raise ValueError(
            f"{type(model).__name__} shows no two linear layers with only element-wise functions between, so no neuron "
            "can be grown; use rigl to evolve the topology alone"
        )
    if not counts.check_positive(update_every, name="update_every") < prune_start_step <= stop_step:
        raise ValueError(
            f"update_every is {update_every}, prune_start_step {prune_start_step}, stop_step {stop_step}; they must "
            "ascend, as growth begins at the first and ends before the second"
        )
    growing = {"start_step": update_every, "stop_step": _last_before(prune_start_step, update_every)}
    pruning = {"start_step": prune_start_step, "stop_step": stop_step}
    counts.check_fraction(neuron_fraction, name="neuron_fraction")
    weight_growth = GrowWeights(
        grow=_grow_by_gradient, grow_fraction=grow_fraction, update_every=update_every, uses_gradient=True, **growing
    )
    weights = sparse_start(model, optimizer, sparsity=sparsity, budget=budget, generator=generator)
    hidden = find_hidden(model, weights)
    _record_activations(hidden)
    neuron_growth = GrowNeurons(
        add=_bridge,
        neuron_fraction=neuron_fraction,
        hidden=hidden,
        update_every=update_every,
        uses_gradient=True,
        **growing,
    )
    start = {weight.name: weight.num_active for weight in weights}
    shrink = ShrinkTo(drop=criteria.magnitude, num_active=start, update_every=update_every, **pruning)
    removal = RemoveDeadNeurons(hidden=hidden, update_every=update_every, **pruning)
    updates: list[Update] = [weight_growth, neuron_growth, shrink, removal]
    return Sparsifier(weights, optimizer, updates=updates, generator=generator)


def _last_before(step: int, update_every: int) -> int:
    return (step - 1) // update_every * update_every


def _grow_by_gradient(weight: Weight, kept: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return growth.gradient(weight.gradient_tiles(), kept, weight.closed_rows, weight.closed_columns, count=count)


def _bridge(hidden: HiddenLayer, number: int, generator: torch.Generator, optimizer: Optimizer) -> None:
    # No more pairs than there are.
    open_pairs = int((~hidden.reader.closed_rows).sum()) * int((~hidden.weight.closed_columns).sum())
    number = min(number, open_pairs)
    bridge_(hidden, number, num_pairs=min(mean_fan_out(hidden), open_pairs // number), optimizer=optimizer)


def _record_activations(hidden: list[HiddenLayer]) -> None:
    for layer in hidden:
        for weight, module in ((layer.weight, layer.layer), (layer.reader, layer.reader_layer)):
            if isinstance(weight, MaskedWeight) and isinstance(module, nn.Linear):
                weight.records = module
