import gc
import itertools
import json
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gossamer import files
from gossamer.data import Dataset
from gossamer.training import METHODS, Config, NotFiniteError, TrainingInterruptedError, loop, train
from gossamer.training.build import Setup, set_up

from .small import config, digits

DATA = digits()


def steps(number: int) -> Callable[[], bool]:
    """Stop after so many steps."""
    remaining = iter([False] * (number - 1) + [True])
    return lambda: next(remaining)


def diary(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_the_watcher_sees_every_step_and_then_the_stop_is_asked_for(tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []

    with pytest.raises(TrainingInterruptedError, match="SET, seed 0 stopped after step 3 of 15"):
        train(config(), DATA, tmp_path, watch=lambda *event: seen.append(event), should_stop=steps(3))

    assert [event[:2] for event in seen] == [(0, 15), (1, 15), (2, 15), (3, 15)]
    assert seen[0][2] == "compiling kernels"
    assert seen[3][2].startswith("loss ")


def test_pruning_before_the_first_step_is_announced_and_its_time_is_counted(tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []

    with pytest.raises(TrainingInterruptedError):
        train(config(method="snip"), DATA, tmp_path, watch=lambda *event: seen.append(event), should_stop=steps(1))

    assert seen[0] == (0, 15, "pruning")
    progress = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["progress"]
    assert progress["where"]["topology"] > 0
    assert progress["seconds"] == pytest.approx(sum(progress["where"].values()))


def test_the_diary_has_a_line_for_each_epoch_and_update(tmp_path: Path) -> None:
    fields = train(config(), DATA, tmp_path)

    events = [event["event"] for event in diary(tmp_path)]
    assert events.count("evaluation") == 4  # before the first step too
    assert events.count("update") == 5
    assert (events[0], events[-2:]) == ("start", ["layers", "end"])
    assert diary(tmp_path)[-1] == {"event": "end", **fields}


def test_accuracies_are_those_of_the_last_and_of_the_best_evaluation(tmp_path: Path) -> None:
    fields = train(config(epochs=6), DATA, tmp_path)

    accuracies = [event["test_accuracy"] for event in diary(tmp_path) if event["event"] == "evaluation"]
    assert fields["final_accuracy"] == accuracies[-1]
    assert fields["best_accuracy"] == max(accuracies)  # type: ignore[type-var]


def test_the_training_loss_is_the_mean_over_the_samples_of_the_epoch(tmp_path: Path) -> None:
    # A learning rate that moves nothing, and a last batch that is smaller than the others.
    train(config(learning_rate=1e-30, weight_decay=0.0, batch_size=64, epochs=1, method="dense"), DATA, tmp_path)

    first, last = [event for event in diary(tmp_path) if event["event"] == "evaluation"]
    model = files.read(tmp_path / "model.safetensors").tensors
    hidden = DATA.train_inputs
    for name in ("0", "2"):
        hidden = (hidden @ model[f"{name}.weight"].t() + model[f"{name}.bias"]).relu()
    outputs = hidden @ model["4.weight"].t() + model["4.bias"]
    assert first["train_loss"] is None
    assert last["train_loss"] == pytest.approx(
        float(torch.nn.functional.cross_entropy(outputs, DATA.train_targets)), rel=1e-5
    )


def test_a_run_that_ends_lets_go_of_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[torch.nn.Module]] = []

    def remember(config: Config, dataset: Dataset) -> Setup:
        setup = set_up(config, dataset)
        made.append(weakref.ref(setup.model))
        return setup

    monkeypatch.setattr(loop, "set_up", remember)
    train(config(storage="masked", method="rigl"), DATA, tmp_path)
    gc.collect()

    assert made[0]() is None


def test_weights_that_a_step_spoils_are_found_by_the_evaluation_before_they_are_saved(tmp_path: Path) -> None:
    # One step an epoch; the loss before the first step is fine.
    with pytest.raises(NotFiniteError, match=r"SET, seed 0: the test loss became (nan|inf) at step 1 \(epoch 1.00\)"):
        train(config(batch_size=200, learning_rate=1e38), DATA, tmp_path)

    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["progress"]["step"] == 0
    assert diary(tmp_path)[-1]["status"] == "failed"


def test_weights_that_a_step_spoils_are_not_saved_on_ctrl_c_either(tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError, match="became NaN or infinite at step 1"):
        train(config(learning_rate=1e38, weight_decay=1e38), DATA, tmp_path, should_stop=steps(1))

    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["progress"]["step"] == 0


def test_without_a_checkpoint_resume_begins(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"event": "sta')

    train(config(epochs=1), DATA, tmp_path, resume=True)

    assert diary(tmp_path)[0]["event"] == "start"


@pytest.mark.parametrize(
    ("method", "storage"),
    [
        *itertools.product(("set", "rigl", "srigl", "nm_rigl", "truly_sparse", "nest"), ("masked", "sparse")),
        *((method.name, "auto") for method in METHODS if method.masked_only or method.name == "snip"),
    ],
)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_checkpoint_of_a_resumed_run_is_that_of_the_uninterrupted_one(
    tmp_path: Path, method: str, storage: str, optimizer: str
) -> None:
    """Not only the weights in the end: optimizer, topology and random states too, one step after going on."""
    settings = config(method=method, storage=storage, optimizer=optimizer, dropout=0.3, learning_rate=0.01)
    for name in ("whole", "resumed"):
        (tmp_path / name).mkdir()
    with pytest.raises(TrainingInterruptedError):
        train(settings, DATA, tmp_path / "whole", should_stop=steps(9))
    with pytest.raises(TrainingInterruptedError):
        train(settings, DATA, tmp_path / "resumed", should_stop=steps(7))
    for number in (1, 1):  # just before the update after step 8, and just after it
        with pytest.raises(TrainingInterruptedError):
            train(settings, DATA, tmp_path / "resumed", resume=True, should_stop=steps(number))

    mine, theirs = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("whole", "resumed"))
    for state in (mine, theirs):
        for clock in ("seconds", "where", "step_seconds", "diary_size"):
            del state["progress"][clock]
    assert_same(mine, theirs)


def assert_same(one: object, other: object) -> None:
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    elif isinstance(one, dict) and isinstance(other, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert_same(value, other[key])
    elif isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            assert_same(mine, theirs)
    else:
        assert one == other
