"""One row for each recipe: it enrols the recipe in the contract tests."""

import functools
from typing import Any

from torch import nn
from torch.optim import Optimizer

from gossamer import Sparsifier, budgets, recipes, testing
from gossamer.recipes.seeded_values import finish_seeded_
from gossamer.testing.trial import Law

from .case import MASKED, NUM_STEPS, OPTIMIZERS, OTHER_OPTIMIZERS, STOP_STEP, Case, expected_counts, granet_total
from .starts import drawing, from_dense, granet_from_sparse

CASES = [
    Case(name="static", start=recipes.static),
    Case(
        name="set_",
        start=functools.partial(recipes.set_, update_every=3, stop_step=STOP_STEP),
        due=(3, 6, 9),
        grows=True,
    ),
    Case(
        name="rigl",
        start=functools.partial(recipes.rigl, update_every=3, stop_step=STOP_STEP),
        due=(3, 6, 9),
        grows=True,
        first_values=0.0,
    ),
    Case(
        name="gse",
        start=functools.partial(recipes.gse, update_every=3, stop_step=STOP_STEP, candidates_per_active=2.0),
        due=(3, 6, 9),
        grows=True,
        first_values=0.0,
    ),
    # The schedule starts at 0, and a network that is sparse already meets it only where it passes that.
    Case(
        name="gmp",
        start=from_dense(recipes.gmp, sparsity=0.8, start_step=2, stop_step=STOP_STEP, update_every=3),
        due=(2, 5, 8, 11, 12),
        may_rest=(2, 5),
    ),
    Case(
        name="dsd",
        start=from_dense(recipes.dsd, sparsity=0.8, start_step=3, stop_step=9),
        due=(3, 9),
        grows=True,
        storages=MASKED,
        sparse_after=tuple(range(3, 9)),
        first_values=0.0,
    ),
    Case(
        name="iht",
        start=from_dense(
            recipes.iht, sparsity=0.8, start_step=2, stop_step=STOP_STEP, num_sparse_steps=3, num_dense_steps=2
        ),
        due=(2, 5, 7, 10, 12),
        grows=True,
        storages=MASKED,
        sparse_after=(2, 3, 4, 7, 8, 9, 12, 13, 14),
    ),
    Case(
        name="ac_dc",
        start=from_dense(
            recipes.ac_dc,
            sparsity=0.8,
            start_step=2,
            stop_step=STOP_STEP,
            num_sparse_steps=3,
            num_dense_steps=2,
            budget=budgets.uniform,
        ),
        due=(2, 5, 7, 10, 12),
        grows=True,
        storages=MASKED,
        sparse_after=(2, 3, 4, 7, 8, 9, 12, 13, 14),
        resets_state=True,
        first_values=0.0,
    ),
    Case(
        name="dns",
        start=from_dense(recipes.dns, deviations=0.5, start_step=2, stop_step=STOP_STEP, update_every=3, margin=0.02),
        due=(2, 5, 8, 11, 12),
        grows=True,
        storages=MASKED,
        free=True,
        keeps_state=True,
    ),
    Case(
        name="dpf",
        start=from_dense(
            recipes.dpf,
            sparsity=0.8,
            start_step=2,
            full_step=5,
            stop_step=STOP_STEP,
            update_every=3,
            budget=budgets.uniform,
        ),
        due=(2, 5, 8, 11, 12),
        grows=True,
        storages=MASKED,
        sparse_after=tuple(range(5, NUM_STEPS + 1)),
        keeps_state=True,
    ),
    Case(
        name="deep_r",
        start=functools.partial(recipes.deep_r, strength=0.01, temperature=0.5, stop_step=STOP_STEP),
        due=tuple(range(1, STOP_STEP)),
        grows=True,
        moves=True,
        moves_survivors=True,
    ),
    Case(
        name="soft_deep_r",
        start=drawing(recipes.soft_deep_r, sparsity=0.6, strength=0.5, temperature=0.05, stop_step=STOP_STEP),
        due=tuple(range(1, STOP_STEP)),
        grows=True,
        storages=MASKED,
        free=True,
        may_rest=tuple(range(1, STOP_STEP)),
        moves_survivors=True,
    ),
    Case(
        name="dsr",
        start=functools.partial(
            recipes.dsr, update_every=3, stop_step=STOP_STEP, drop_fraction=0.2, threshold=0.05, tolerance=0.1
        ),
        due=(3, 6, 9),
        grows=True,
        moves=True,
        first_values=0.0,
    ),
    Case(name="granet", start=granet_from_sparse, due=(2, 5, 8, 11), grows=True, counts=granet_total, first_values=0.0),
    Case(
        name="mest",
        start=functools.partial(recipes.mest, update_every=3, stop_step=STOP_STEP, drop_fraction=0.3, grad_factor=0.5),
        due=(3, 6, 9),
        grows=True,
        first_values=0.0,
    ),
    Case(
        name="rigl_itop",
        start=functools.partial(recipes.rigl_itop, update_every=3, stop_step=STOP_STEP),
        due=(3, 6, 9),
        grows=True,
        first_values=0.0,
    ),
    Case(
        name="set_itop",
        start=functools.partial(recipes.set_itop, update_every=3, stop_step=STOP_STEP),
        due=(3, 6, 9),
        grows=True,
    ),
    Case(
        name="snfs",
        start=drawing(recipes.snfs, sparsity=0.6, update_every=3, stop_step=STOP_STEP),
        due=(3, 6, 9),
        grows=True,
        storages=MASKED,
        moves=True,
        first_values=0.0,
    ),
    Case(
        name="top_kast",
        start=from_dense(
            recipes.top_kast, sparsity=0.8, backward_sparsity=0.5, strength=0.1, stop_step=STOP_STEP, update_every=3
        ),
        due=(3, 6, 9),
        grows=True,
        storages=MASKED,
        sparse_after=tuple(range(1, NUM_STEPS + 1)),
        keeps_state=True,
        moves_survivors=True,
    ),
    Case(
        name="dnw",
        start=from_dense(recipes.dnw, sparsity=0.8),
        due=tuple(range(1, NUM_STEPS + 1)),
        grows=True,
        storages=MASKED,
        sparse_after=tuple(range(NUM_STEPS + 1)),
        keeps_state=True,
    ),
    Case(
        name="dropback",
        start=drawing(
            recipes.dropback, sparsity=0.8, init_decay=0.9, freeze_step=9, zero_step=11, budget=budgets.uniform
        ),
        finish=finish_seeded_,
        due=tuple(range(1, NUM_STEPS + 1)),
        grows=True,
        storages=MASKED,
        sparse_after=tuple(range(NUM_STEPS + 1)),
        keeps_state=True,
    ),
    Case(
        name="swat",
        start=from_dense(recipes.swat, sparsity=0.8, update_every=2, stop_step=STOP_STEP),
        due=tuple(range(2, STOP_STEP + 1, 2)),
        grows=True,
        storages=MASKED,
        sparse_after=tuple(range(NUM_STEPS + 1)),
        keeps_state=True,
    ),
    Case(
        name="nm_rigl",
        start=drawing(recipes.nm_rigl, n=2, m=5, update_every=3, stop_step=STOP_STEP),
        due=(3, 6, 9),
        grows=True,
        first_values=0.0,
    ),
    Case(
        name="srigl",
        start=functools.partial(recipes.srigl, update_every=3, stop_step=STOP_STEP),
        due=(3, 6, 9),
        grows=True,
        free=True,
        first_values=0.0,
    ),
    Case(
        name="nest",
        start=functools.partial(
            recipes.nest, update_every=2, prune_start_step=7, stop_step=STOP_STEP, neuron_fraction=0.15
        ),
        due=(2, 4, 6, 7, 9, 11, 12),
        grows=True,
        free=True,
        resizes_at=(2, 4, 6, 7, 9, 11, 12),
    ),
    Case(
        name="truly_sparse",
        start=functools.partial(
            recipes.truly_sparse,
            update_every=3,
            stop_step=STOP_STEP,
            prune_start_step=4,
            prune_every=4,
            neuron_fraction=0.2,
        ),
        due=(3, 4, 6, 8, 9),
        removes=(4, 8),
        grows=True,
        resizes_at=(4, 8),
    ),
]
PAIRS = [(case, storage) for case in CASES for storage in case.storages]


def trial(case: Case, storage: str, optimizer: str = "SGD") -> testing.Trial:
    """Return what the checks of `gossamer.testing` are run on."""
    law: Law = case.counts or ("total" if case.moves else "per weight")
    if case.counts is None and (case.name == "gmp" or case.sparse_after is not None):
        law = functools.partial(counts_of_case, case.name, storage)
    return testing.Trial(
        start=functools.partial(start_case, case.name),
        storage=storage,
        optimizer=(OPTIMIZERS | OTHER_OPTIMIZERS)[optimizer],
        promise=testing.Promise(
            counts=law,
            counts_change_at=case.removes + (case.due if case.free else ()),
            due=case.due,
            # Where the values alone decide, they may have decided before.
            may_rest=case.due if case.keeps_state else case.may_rest,
            first_values=case.first_values,
            keeps_state=case.keeps_state,
            resets_state=case.resets_state,
            moves_survivors=case.moves_survivors,
            resizes_at=case.resizes_at,
            finish=case.finish,
        ),
        num_steps=NUM_STEPS,
        name=case.name,
    )


def start_case(name: str, model: nn.Module, optimizer: Optimizer, **rest: Any) -> Sparsifier:
    """Start the recipe of this row; unlike what the row holds, this can be sent to another process."""
    return find(name).start(model, optimizer, **rest)


def counts_of_case(name: str, storage: str, step: int) -> list[int] | None:
    """Return `expected_counts` of this row; it can be sent to another process, too."""
    return expected_counts(find(name), storage, step)


def find(name: str) -> Case:
    """Return the row of this name."""
    return next(case for case in CASES if case.name == name)
