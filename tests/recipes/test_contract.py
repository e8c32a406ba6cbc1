"""Every recipe goes through the checks that the library offers for the recipes of others."""

import inspect

import pytest

from gossamer import Sparsifier, recipes, testing
from gossamer.testing.suite import Check

from .case import NUM_STEPS, OPTIMIZERS, OTHER_OPTIMIZERS, Case
from .cases import CASES, PAIRS, trial
from .network import begin, counts_of, topology_of, train_step

every_recipe = pytest.mark.parametrize(
    ("case", "storage"), PAIRS, ids=lambda part: part.name if isinstance(part, Case) else part
)
# Two processes see all recipes at once, see tests/testing/test_ranks.py.
ALONE = [check for check in testing.CHECKS if check is not testing.check_ranks]
every_check = pytest.mark.parametrize("check", ALONE, ids=lambda check: check.__name__)


def test_the_table_holds_every_public_recipe() -> None:
    public = {name: getattr(recipes, name) for name in recipes.__all__}
    makers = [name for name, each in public.items() if inspect.signature(each).return_annotation is Sparsifier]

    # `hold` takes a model that was made sparse before.
    assert sorted([*(case.name for case in CASES), "hold"]) == sorted(makers)


@every_recipe
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@every_check
def test_a_recipe_keeps_the_rule(case: Case, storage: str, optimizer: str, check: Check) -> None:
    check(trial(case, storage, optimizer))


@every_recipe
@pytest.mark.parametrize("optimizer", OTHER_OPTIMIZERS)
def test_a_recipe_gets_along_with_any_optimizer(case: Case, storage: str, optimizer: str) -> None:
    other = trial(case, storage, optimizer)
    testing.check_zeros(other)
    testing.check_updates(other)
    testing.check_resume(other, saved_at=(4, 7))


@pytest.mark.parametrize("case", [case for case in CASES if len(case.storages) == 2], ids=lambda case: case.name)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_both_storages_agree_from_other_first_values_too(case: Case, optimizer: str) -> None:
    testing.check_storages(trial(case, "truly sparse", optimizer), seed=1)


@every_recipe
def test_the_row_says_what_the_recipe_does(case: Case, storage: str) -> None:
    runs = [begin(case.start, OPTIMIZERS["SGD"], storage, seed) for seed in (1, 2)]
    before, counts, num_grown = topology_of(runs[0]), counts_of(runs[0]), 0
    for step in range(1, NUM_STEPS + 1):
        for run in runs:
            train_step(run, step)
        found = topology_of(runs[0])
        num_grown += sum(len({*now} - {*then}) for now, then in zip(found, before, strict=True))
        if step in case.removes:
            assert all(now < then for now, then in zip(counts_of(runs[0]), counts, strict=True))
        before, counts = found, counts_of(runs[0])
        # Later all weights of a method with dense phases may exist.
        assert step != 7 or found != topology_of(runs[1])

    assert (num_grown > 0) == case.grows
