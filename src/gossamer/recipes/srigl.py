"""SRigL: RigL with the same number of inputs at every neuron, and without neurons of which few inputs matter."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gossamer import budgets, counts, criteria, patterns, schedules
from gossamer.nn import SparseEmbedding
from gossamer.recipes.grouped_start import draw_in_groups, fill_groups_
from gossamer.recipes.start import sparse_start
from gossamer.sparsifier import Sparsifier
from gossamer.updates import ExchangeFanIn
from gossamer.weights import SparseWeight, Weight, num_open


def srigl(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    stop_step: int,
    generator: torch.Generator,
    sparsity: float | None = None,
    update_every: int = 100,
    drop_fraction: float = 0.3,
    salient_fraction: float = 0.3,
    outputs: tuple[str, ...] = (),
    budget: budgets.Budget = budgets.erk,
) -> Sparsifier:
    """Train sparse from the start as RigL does, with exactly k incoming weights at every live neuron.

    drop: the smallest |w| of the whole layer
    remove: neurons with fewer than salient_fraction * k weights that RigL would keep or grow; k rises in return
    grow: at each live neuron the largest |gradient|, until it has k weights again

    At every step a layer has k weights a live neuron, k = floor(its first number of weights / live neurons): fewer
    than one a neuron are left over, and wait until the number of neurons changes. A removed neuron has no incoming
    weights for good; it passes its bias on, and what reads it stays.

    Args:
        model: truly sparse, or dense (then weights are masked). Of a truly sparse layer whose neurons differ the
            smallest weights of full neurons go and random ones come at others; one in which all neurons that have
            weights have equally many stays as it is, the others count as removed.
        optimizer: holds the model's parameters.
        stop_step: the last update comes before this step; see `rigl`.
        generator: source of randomness, on the CPU.
        sparsity: fraction of the dense weights to remove, in [0, 1); None for a truly sparse model.
        update_every: steps between two updates.
        drop_fraction: fraction exchanged at first, in [0, 1].
        salient_fraction: gamma_sal, in [0, 1]; the paper takes 0.3 for convolutional networks, 0.95 for transformers.
            0: no neuron is removed.
        outputs: names of the weights whose neurons all stay; default: the last one of the model. Rows of an embedding
            stay in any case.
        budget: splits what is kept over the dense weights; each gets the nearest multiple of its neurons.

    Raises:
        ValueError: dense weights without a sparsity, a sparsity that has no effect, an unfit optimizer, an unknown
            output, or a salient_fraction outside [0, 1].

    Source:
        Lasby, Golubeva, Evci, Nica, Ioannou. Dynamic Sparse Training with Structured Sparsity. ICLR 2024,
        arXiv:2305.02299.
        Differs: the output layer keeps its neurons, and so many of every layer stay that its weights have place; see
        also `rigl`.
    """
    counts.check_fraction(salient_fraction, name="salient_fraction")
    weights = sparse_start(model, optimizer, sparsity=sparsity, budget=budget, generator=generator, draw=_draw)
    names = [weight.name for weight in weights]
    if unknown := [name for name in outputs if name not in names]:
        raise ValueError(f"outputs names {unknown[0]}, but the weights are {', '.join(names)}; name some of these")
    for weight in weights:
        _equalize_(weight, optimizer, generator)
    update = ExchangeFanIn(
        drop=criteria.magnitude,
        drop_fraction=schedules.cosine(drop_fraction, 0.0, stop_step),
        num_weights={weight.name: weight.num_active for weight in weights},
        salient_fraction=salient_fraction,
        keeps_neurons=frozenset([*(outputs or names[-1:]), *(one.name for one in weights if _is_embedding(one))]),
        update_every=update_every,
        stop_step=stop_step,
    )
    return Sparsifier(weights, optimizer, updates=[update], generator=generator)


def _is_embedding(weight: Weight) -> bool:
    return isinstance(weight, SparseWeight) and isinstance(weight.module, SparseEmbedding)


def _draw(shape: tuple[int, ...], num_active: int, *, generator: torch.Generator) -> Tensor:
    fan_in, row = _fan_in(shape, num_active), patterns.constant_fan_in().groups(shape)[:1].flatten()
    each = torch.full((shape[0], 1), fan_in)
    return draw_in_groups(shape, torch.zeros_like(row), each, generator=generator)


def _equalize_(weight: Weight, optimizer: Optimizer, generator: torch.Generator) -> None:
    columns = weight.closed_columns.numel()
    if weight.num_active >= num_open(weight):
        return
    row = weight.indices() // columns
    found = row.bincount(minlength=weight.shape[0])
    if found[found > 0].unique().numel() == 1:
        weight.closed_rows |= found == 0
        return
    each = torch.where(weight.closed_rows, 0, _fan_in(weight.shape, weight.num_active))[:, None]
    one = torch.zeros(columns, dtype=torch.int64, device=row.device)
    fill_groups_(weight, one, each, optimizer, generator=generator)


def _fan_in(shape: tuple[int, ...], num_active: int) -> int:
    return patterns.constant_fan_in().nearest(shape, num_active) // max(1, shape[0])
