"""The methods that the command line knows: a row each, with its paper."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer

from gossamer import recipes
from gossamer.budgets import Budget, er, erk, uniform
from gossamer.sparsifier import Sparsifier


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a method needs to know of a training run.

    Attributes:
        sparsity: asked for at the end.
        start_sparsity: what the recipe makes of dense weights at the start; None: the model is truly sparse already.
        budget: splits what is kept.
        num_steps: optimizer steps in all.
        steps_per_epoch: optimizer steps in one pass over the data.
        drop_fraction: fraction exchanged at an update.
        update_every: steps between two updates.
        update_until: fraction of the training after which the topology stays; 0: the method's own.
        generator: source of randomness.
    """

    sparsity: float
    start_sparsity: float | None
    budget: Budget
    num_steps: int
    steps_per_epoch: int
    drop_fraction: float
    update_every: int
    update_until: float
    generator: torch.Generator

    def stop_step(self, own: int) -> int:
        """Return the step before which the last update comes; `own`: the method's own."""
        return max(1, round(self.num_steps * self.update_until) if self.update_until else own)


@dataclass(frozen=True, kw_only=True)
class Method:
    """One row of `gossamer methods`.

    Attributes:
        name: as given to --method.
        label: as people write it.
        summary: one line.
        paper: where it was published.
        truly_sparse: whether it trains on truly sparse weights unless told otherwise.
        from_dense: whether the network starts dense and becomes sparse.
        all_relu: whether its networks use All-ReLU.
        budget: how it splits what is kept unless told otherwise.
        update_every: (steps per epoch) -> steps between two updates unless told otherwise.
        make: (model, optimizer, plan) -> sparsifier, or None where nothing is sparse.
    """

    name: str
    label: str
    summary: str
    paper: str
    truly_sparse: bool = True
    from_dense: bool = False
    all_relu: bool = False
    budget: Budget = erk
    update_every: Callable[[int], int] = lambda steps_per_epoch: 100
    make: Callable[[nn.Module, Optimizer, Plan], Sparsifier | None]


def _static(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    return recipes.static(model, optimizer, generator=plan.generator, sparsity=plan.start_sparsity, budget=plan.budget)


def _set(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    return recipes.set_(
        model,
        optimizer,
        update_every=plan.update_every,
        # After every epoch but the last, as in the paper.
        stop_step=plan.stop_step(plan.num_steps - plan.steps_per_epoch + 1),
        generator=plan.generator,
        sparsity=plan.start_sparsity,
        drop_fraction=plan.drop_fraction,
        budget=plan.budget,
    )


def _rigl(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    return recipes.rigl(
        model,
        optimizer,
        stop_step=plan.stop_step(plan.num_steps * 3 // 4),
        generator=plan.generator,
        sparsity=plan.start_sparsity,
        update_every=plan.update_every,
        drop_fraction=plan.drop_fraction,
        budget=plan.budget,
    )


def _gmp(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    return recipes.gmp(
        model,
        optimizer,
        sparsity=plan.sparsity,
        start_step=plan.num_steps // 10,
        stop_step=max(plan.num_steps // 10 + 1, plan.stop_step(plan.num_steps * 3 // 4)),
        update_every=plan.update_every,
        budget=plan.budget,
    )


def _truly_sparse(model: nn.Module, optimizer: Optimizer, plan: Plan) -> Sparsifier:
    return recipes.truly_sparse(
        model,
        optimizer,
        update_every=plan.update_every,
        stop_step=plan.stop_step(plan.num_steps - plan.steps_per_epoch + 1),
        # 40 % of the training, as in the authors' code; then five removals.
        prune_start_step=max(1, plan.num_steps * 2 // 5),
        prune_every=max(1, plan.num_steps // 10),
        generator=plan.generator,
        sparsity=plan.start_sparsity,
        drop_fraction=plan.drop_fraction,
        budget=plan.budget,
    )


METHODS = (
    Method(
        name="dense",
        label="dense",
        summary="every weight exists; the rival of all others",
        paper="",
        truly_sparse=False,
        make=lambda model, optimizer, plan: None,
    ),
    Method(
        name="static",
        label="static",
        summary="a random topology that never changes",
        paper="Mocanu et al. 2016, arXiv:1604.05978",
        make=_static,
    ),
    Method(
        name="set",
        label="SET",
        summary="drop the weights nearest zero, grow others at random",
        paper="Mocanu et al. 2018, arXiv:1707.04780",
        budget=er,
        update_every=lambda steps_per_epoch: steps_per_epoch,
        make=_set,
    ),
    Method(
        name="rigl",
        label="RigL",
        summary="drop the smallest weights, grow where the gradient is largest",
        paper="Evci et al. 2020, arXiv:1911.11134",
        make=_rigl,
    ),
    Method(
        name="gmp",
        label="GMP",
        summary="start dense, remove the smallest weights little by little",
        paper="Zhu, Gupta 2017, arXiv:1710.01878",
        truly_sparse=False,
        from_dense=True,
        budget=uniform,
        make=_gmp,
    ),
    Method(
        name="truly_sparse",
        label="Truly Sparse",
        summary="SET with All-ReLU; late in training the weakest hidden neurons go",
        paper="Curci et al. 2021, arXiv:2102.01732",
        all_relu=True,
        budget=er,
        update_every=lambda steps_per_epoch: steps_per_epoch,
        make=_truly_sparse,
    ),
)


def find_method(name: str) -> Method:
    """Return the method of a name.

    Raises:
        ValueError: there is none; the error names the nearest.
    """
    for method in METHODS:
        if method.name == name:
            return method
    names = [method.name for method in METHODS]
    near = difflib.get_close_matches(name.lower(), names, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise ValueError(f"unknown method {name!r}; {hint}known are {', '.join(names)} (see: gossamer methods)")
