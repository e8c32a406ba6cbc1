"""ITOP: SET and RigL with rare and large updates, and the share of the dense network that they try."""

import torch
from torch import nn
from torch.optim import Optimizer

from gossamer import budgets, criteria, schedules
from gossamer.recipes.rigl import rigl_update
from gossamer.recipes.set_ import grow_at_random
from gossamer.recipes.start import sparse_start
from gossamer.sparsifier import Sparsifier
from gossamer.updates import Exchange, Explored


def set_itop(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    update_every: int,
    stop_step: int,
    generator: torch.Generator,
    sparsity: float | None = None,
    drop_fraction: float = 0.5,
    budget: budgets.Budget = budgets.erk,
    explored: Explored | None = None,
) -> Sparsifier:
    """Exchange many weights rarely, so that new ones can grow before they are judged; grow at random.

    Args:
        model: truly sparse, or dense (then weights are masked).
        optimizer: holds the model's parameters.
        update_every: steps between two updates; the paper: 1,500 and more.
        stop_step: the last update comes before this step; the later, the more is tried.
        generator: source of randomness, on the CPU.
        sparsity: fraction of the dense weights to remove, in [0, 1); None for a truly sparse model.
        drop_fraction: fraction exchanged at first, in [0, 1]; it falls along a cosine.
        budget: splits what is kept over the dense weights.
        explored: a record of what was ever active, made with the same `every`; ask it for its `share()`.

    Raises:
        ValueError: dense weights without a sparsity, a sparsity that has no effect, a setting out of range, or an unfit
            optimizer.

    Source:
        Liu, Yin, Mocanu, Pechenizkiy. Do we actually need dense over-parameterization? In-time over-parameterization in
        sparse training. ICML 2021, arXiv:2102.02887.

    Example:
        >>> from gossamer.updates import Explored
        >>> model, explored = nn.Linear(20, 10), Explored(every=1)
        >>> sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> settings = dict(update_every=1, stop_step=9, sparsity=0.8, generator=torch.Generator(), explored=explored)
        >>> sparsifier = set_itop(model, sgd, **settings)
        >>> explored.share()
        0.2
    """
    exchange = Exchange(
        drop=criteria.magnitude,
        grow=grow_at_random,
        drop_fraction=schedules.cosine(drop_fraction, 0.0, stop_step),
        update_every=update_every,
        stop_step=stop_step,
    )
    weights = sparse_start(model, optimizer, sparsity=sparsity, budget=budget, generator=generator)
    return Sparsifier(weights, optimizer, updates=_with_record(exchange, explored), generator=generator)


def rigl_itop(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    update_every: int,
    stop_step: int,
    generator: torch.Generator,
    sparsity: float | None = None,
    drop_fraction: float = 0.5,
    budget: budgets.Budget = budgets.erk,
    explored: Explored | None = None,
) -> Sparsifier:
    """Exchange many weights rarely, so that new ones can grow before they are judged; grow by the gradient.

    Args:
        model: see `set_itop`.
        optimizer: see `set_itop`.
        update_every: steps between two updates; the paper: 4,000.
        stop_step: see `set_itop`.
        generator: see `set_itop`.
        sparsity: see `set_itop`.
        drop_fraction: see `set_itop`.
        budget: see `set_itop`.
        explored: see `set_itop`.

    Raises:
        ValueError: see `set_itop`.

    Source:
        Liu et al. ICML 2021, arXiv:2102.02887; see `set_itop`.
    """
    exchange = rigl_update(update_every=update_every, stop_step=stop_step, drop_fraction=drop_fraction)
    weights = sparse_start(model, optimizer, sparsity=sparsity, budget=budget, generator=generator)
    return Sparsifier(weights, optimizer, updates=_with_record(exchange, explored), generator=generator)


def _with_record(exchange: Exchange, explored: Explored | None) -> list[Exchange | Explored]:
    return [exchange] if explored is None else [exchange, explored]
