"""Multi-layer perceptrons, dense or truly sparse, with one and the same start."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from gossamer import budgets
from gossamer.growth import fan_in_uniform, fan_in_uniform_of
from gossamer.nn import AllReLU, ReLU, Sequential, SparseLinear
from gossamer.nn.parameter import drawn_on_cpu
from gossamer.topology import erdos_renyi


def mlp(
    sizes: Sequence[int],
    *,
    generator: torch.Generator,
    sparsity: float = 0.0,
    budget: budgets.Budget = budgets.er,
    dropout: float = 0.0,
    alpha: float | None = None,
) -> nn.Sequential:
    """Make an MLP: linear layers, and between them an activation with dropout behind it.

    Args:
        sizes: features of the input, of each hidden layer and of the output, two or more.
        generator: source of randomness for topologies and first values, on the CPU.
        sparsity: fraction of all weights that do not exist, in [0, 1); 0: dense `nn.Linear` layers. Above 0 every
            layer is `nn.SparseLinear` but those that the budget leaves dense.
        budget: splits what is kept over the layers.
        dropout: probability that a hidden value is zeroed in training, in [0, 1).
        alpha: slope of `nn.AllReLU`; None: `nn.ReLU`.

    Returns:
        Layers and activations in one nn.Sequential, ours where they are sparse. Weights start uniform in
        +-sqrt(6 / live fan-in), biases at zero, dense and sparse alike.

    Raises:
        ValueError: fewer than two sizes, one below 1, sparsity or dropout out of range.

    Example:
        >>> model = mlp([784, 300, 10], sparsity=0.9, generator=torch.Generator().manual_seed(0))
        >>> sum(layer.num_active for layer in model if isinstance(layer, SparseLinear))
        20820
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"an MLP needs two or more sizes of at least 1, got {list(sizes)}")
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
    shapes = {str(i): (outputs, inputs) for i, (inputs, outputs) in enumerate(pairwise(sizes))}
    kept = budget(shapes, sparsity=sparsity)
    model = Sequential() if sparsity else nn.Sequential()
    with drawn_on_cpu(model):
        for depth, (name, shape) in enumerate(shapes.items(), start=1):
            model.append(_layer(shape, kept[name], generator))
            if depth < len(shapes):
                model.append(_activation(alpha, depth, dropout))
    return model


def _activation(alpha: float | None, depth: int, dropout: float) -> nn.Module:
    if alpha is not None:
        return AllReLU(alpha=alpha, layer=depth, dropout=dropout)
    return ReLU(dropout=dropout) if dropout else nn.ReLU(inplace=True)


def _layer(shape: tuple[int, int], num_active: int, generator: torch.Generator) -> nn.Module:
    outputs, inputs = shape
    bias = torch.zeros(outputs)
    if num_active < outputs * inputs:
        places = erdos_renyi(shape, num_active, generator=generator)
        values = fan_in_uniform_of(places.row_pointers, generator=generator)
        return SparseLinear.from_topology(places, values, bias)
    linear: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)
    rows = torch.arange(outputs).repeat_interleave(inputs)
    values = fan_in_uniform(rows, torch.full((outputs,), inputs), generator=generator)
    linear.weight.data.copy_(values.view(outputs, inputs))
    linear.bias.data.copy_(bias)
    return linear
