"""The experiments of growth.py train what they say, with equal numbers of weights, and go on where they stopped."""

import argparse
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gossamer.training import Config
from tests.benchmarks.test_size import load


@pytest.fixture
def growth(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("PIL", reason="the images of one experiment are JPEG")
    return load("benchmarks/growth.py", monkeypatch)


def trial(growth: ModuleType, method: str, **changes: Any) -> Any:
    """A training of seconds."""
    given: dict[str, Any] = {
        "data": "digits",
        "model": "mlp:20-16",
        "sparsity": 0.8,
        "epochs": 2,
        "batch_size": 100,
    } | changes
    config = Config(method=method, **given)
    return growth.Trial(experiment="lenet", panel="digits", label=method, config=config)


def test_every_method_has_as_many_weights_and_only_dynamic_ones_explore(growth: ModuleType) -> None:
    found = {name: growth.run(trial(growth, name, update_every=5)) for name in ("static", "set", "rigl")}

    assert {result["num_active"] for result in found.values()} == {round(0.2 * (64 * 20 + 20 * 16 + 16 * 10))}
    assert found["static"]["explored"] == pytest.approx(0.2)
    assert found["set"]["explored"] > 0.25
    assert found["rigl"]["explored"] > 0.25


def test_the_same_trial_has_the_same_end(growth: ModuleType) -> None:
    first, second = (growth.run(trial(growth, "set", update_every=5)) for _ in range(2))

    assert first["curve"] == second["curve"]


def test_results_are_read_again_but_for_a_line_that_was_cut(growth: ModuleType, tmp_path: Path) -> None:
    path, one = tmp_path / "growth.jsonl", trial(growth, "set")
    growth.Results(path).add(one, {"accuracy": 0.5, "curve": {1: 0.5}})
    path.write_text(path.read_text() + '{"trial": {"exp')

    again = growth.Results(path)

    assert again.found == {one: {"accuracy": 0.5, "curve": {"1": 0.5}}}
    assert len(path.read_text().splitlines()) == 1
    assert json.loads(path.read_text())["trial"]["config"]["sparsity"] == 0.8


def test_the_neurons_that_are_left_are_counted_where_they_go(growth: ModuleType) -> None:
    found = growth.run(trial(growth, "truly_sparse", epochs=10, drop_fraction=0.1))

    assert found["neurons"] < 36
    assert found["num_active"] < round(0.2 * (64 * 20 + 20 * 16 + 16 * 10))


def test_all_that_is_asked_for_is_planned_once(growth: ModuleType) -> None:
    options = argparse.Namespace(
        experiment=list(growth.EXPERIMENTS), seeds=2, first_seed=0, methods=[], sparsities=[], panels=[],
        epochs=0, learning_rate=0.0, config=[], validation=False,
    )  # fmt: skip
    planned = list(growth.trials(options))

    assert len(planned) == len(set(planned))
    assert {one.config.seed for one in planned} == {0, 1}
    assert {one.experiment for one in planned} == set(growth.EXPERIMENTS)
