"""The suite lets sound recipes pass and catches broken ones, and its messages say where."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gossamer.testing import (
    CHECKS,
    CONVOLUTIONAL,
    OPTIMIZERS,
    STORAGES,
    ConformanceError,
    Promise,
    Trial,
    check_counts,
    check_failures,
    check_finalize,
    check_ranks,
    check_recipe,
    check_resume,
    check_seed,
    check_skipped_steps,
    check_steps,
    check_storages,
    check_updates,
    check_zeros,
)
from gossamer.testing.run import leaves
from gossamer.testing.suite import Check

from . import broken

ALONE = [check for check in CHECKS if check is not check_ranks]
PROMISE = Promise(due=(3, 6, 9))
# Check, recipe, storages in which it shows, step and weight that the message names, and a word of the message.
FAULTS: list[tuple[Check, Callable[..., Any], tuple[str, ...], int, str, str]] = [
    (check_counts, broken.is_off_by_one, STORAGES, 3, "2", "the number of active weights; expected 77, found 76"),
    (check_zeros, broken.brings_a_weight_back, STORAGES[:1], 3, "2", "absent weights are zero after sparsifier.step"),
    (
        check_updates,
        broken.forgets_to_clear_state,
        STORAGES[:1],
        3,
        "2",
        "the state /momentum_buffer of a grown weight",
    ),
    (
        check_zeros,
        broken.lets_the_optimizer_bring_weights_back,
        STORAGES[:1],
        1,
        "0",
        "absent weights are zero after optimizer.step(); expected 0.0, found 0.001 at entry",
    ),
    (check_updates, broken.forgets_to_clear_state, STORAGES[1:], 3, "2", "the state /momentum_buffer of survivors"),
    (check_updates, broken.changes_a_survivor, STORAGES, 3, "2", "the value of survivors alone, bit for bit"),
    (check_updates, broken.starts_grown_weights_elsewhere, STORAGES, 3, "0", "the value of a grown weight; expected"),
    (check_updates, broken.is_off_by_one, STORAGES, 3, "2", "the changes that step() returns"),
    (check_resume, broken.forgets_its_generator, STORAGES, 6, "0", "resumed after step 3, the run goes on as if"),
    (check_seed, broken.draws_from_the_global_generator, STORAGES, 3, "0", "two runs with the same seed"),
    (check_storages, broken.asks_for_the_storage, STORAGES[1:], 3, "0", "the active entries are those of the masked"),
    (check_steps, broken.changes_between_updates, STORAGES, 1, "2", "the topology changes in sparsifier.step() alone"),
    (check_steps, broken.static, STORAGES, 3, "", "an update changes a topology; expected a change, found none"),
    (check_skipped_steps, broken.counts_skipped_steps, STORAGES, 1, "", "num_steps; expected 1, found 2"),
    (
        check_failures,
        broken.changes_a_survivor,
        STORAGES[:1],
        3,
        "",
        "a step that fails leaves all as it was: /model/2.",
    ),
    (check_failures, broken.counts_updates, STORAGES, 3, "", "leaves all as it was: /sparsifier/updates/0 Counted/c"),
    (check_finalize, broken.leaves_a_hook, STORAGES, -1, "", "finalize() leaves no hook"),
]
ROWS = [(*row[:2], storage, *row[3:]) for row in FAULTS for storage in row[2]]


@pytest.mark.parametrize("check", ALONE, ids=lambda check: check.__name__)
@pytest.mark.parametrize("storage", STORAGES)
def test_a_sound_recipe_passes(check: Check, storage: str) -> None:
    check(Trial(start=broken.sound, storage=storage, promise=PROMISE))


@pytest.mark.parametrize(
    ("check", "start", "storage", "step", "layer", "text"),
    ROWS,
    ids=[f"{check.__name__}-{start.__name__}-{storage}" for check, start, storage, *_ in ROWS],
)
def test_a_broken_recipe_is_caught_and_the_message_says_where(
    check: Check, start: Callable[..., Any], storage: str, step: int, layer: str, text: str
) -> None:
    with pytest.raises(ConformanceError, match=re.escape(text)) as caught:
        check(Trial(start=start, storage=storage, promise=PROMISE))

    weight = f"{layer}.{'weight' if storage == 'masked' else 'values'}" if layer else None
    assert (caught.value.step, caught.value.weight) == (None if step < 0 else step, weight)
    message = str(caught.value)
    assert message.startswith(f"{start.__name__} ({storage}, sgd)")
    assert step < 0 or f"after step {step}" in message
    assert weight is None or weight in message


@pytest.mark.parametrize("storage", STORAGES)
def test_any_optimizer_shows_that_state_was_not_cleared(storage: str) -> None:
    for optimizer in OPTIMIZERS:
        with pytest.raises(ConformanceError, match=r"after step 3, 2\.\w+: .*the state /"):
            check_updates(Trial(start=broken.forgets_to_clear_state, storage=storage, optimizer=optimizer))


def test_the_foreign_optimizer_keeps_every_kind_of_state() -> None:
    layer = torch.nn.Linear(3, 2)
    optimizer = OPTIMIZERS[4](layer)
    layer(torch.ones(1, 3)).sum().backward()
    before = layer.weight.detach().clone()
    optimizer.step()
    state = optimizer.state[layer.weight]
    shapes = {path: tuple(leaf.shape) for path, leaf in leaves(state) if isinstance(leaf, torch.Tensor)}

    assert shapes == {
        "/averages/fast/0": (2, 3),
        "/averages/fast/1": (2, 3),
        "/slow": (2, 3),
        "/number": (),
        "/rows": (2,),
    }
    assert state["averages"]["calls"] == 1
    assert bool((layer.weight != before).all())


def test_a_promise_is_held_to() -> None:
    trial = Trial(start=broken.is_off_by_one)
    check_counts(dataclasses.replace(trial, promise=Promise(counts_change_at=(3, 6, 9))))
    law = dataclasses.replace(trial, promise=Promise(counts=lambda step: 160 + (step < 3)))
    with pytest.raises(ConformanceError, match=r"after step 3: the number of active weights of 0.weight, 2.weight, 4"):
        check_counts(dataclasses.replace(trial, promise=Promise(counts="total")))
    with pytest.raises(ConformanceError, match=r"after step 1: .* expected 161, found 160"):
        check_counts(law)
    check_updates(Trial(start=broken.changes_a_survivor, promise=Promise(moves_survivors=True)))
    grown = Trial(start=broken.starts_grown_weights_elsewhere, promise=Promise(first_values=0.1))
    check_updates(grown)
    check_updates(dataclasses.replace(grown, promise=Promise(first_values=lambda weight, places: 0.1 + 0.0 * places)))
    check_updates(dataclasses.replace(grown, promise=Promise(first_values=None)))


def test_what_cannot_be_a_trial_is_refused() -> None:
    with pytest.raises(ValueError, match="counts is 'each'; give 'per weight', 'total' or a function of the step"):
        Promise(counts="each")
    with pytest.raises(ValueError, match="storage is 'sparse'; give one of masked, truly sparse"):
        Trial(start=broken.sound, storage="sparse")
    with pytest.raises(ValueError, match=r"sparsity must lie in \(0, 1\), got 1.0"):
        Trial(start=broken.sound, sparsity=1.0)


def test_the_whole_suite_runs_all_checks_on_both_storages_with_all_optimizers() -> None:
    seen: list[Trial] = []
    check_recipe(broken.sound, checks=[seen.append])

    assert len(seen) == len({(trial.storage, trial.optimizer, trial.network.batch_shape) for trial in seen}) == 20
    with pytest.raises(ConformanceError, match="is_off_by_one"):
        check_recipe(broken.is_off_by_one, checks=[check_counts])
    check_recipe(broken.sound, optimizer=OPTIMIZERS[4], networks=[CONVOLUTIONAL], checks=ALONE, promise=PROMISE)


def test_pytest_is_not_needed() -> None:
    import ast

    import gossamer.testing

    folder = Path(gossamer.testing.__file__).parent
    imported = {
        name.split(".")[0]
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names])
    }
    assert "pytest" not in imported
