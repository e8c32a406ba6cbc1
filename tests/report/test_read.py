import json
from pathlib import Path

import pytest

from gossamer.report import read_runs
from gossamer.report.read import read_run

from .fake import Event, end, evaluation, run_events, start, write_comparison, write_run


def update(step: int) -> Event:
    return {"event": "update", "step": step, "num_dropped": 3, "num_grown": 2}


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    layer = {
        "name": "0",
        "shape": [2, 4],
        "num_active": 3,
        "bytes": 24,
        "in_degrees": [[2, 1], [1, 1]],
        "out_degrees": [[0, 1], [1, 3]],
    }
    events: list[Event] = [
        start("set"),
        {"event": "layers", "when": "before", "layers": [layer]},
        evaluation(0, 0.1),
        update(5),
        evaluation(10, 0.5, 1.5, 3),
        end(0.5, 4.0, 0.05),
    ]

    run = read_run(write_run(tmp_path, events))

    assert (run.start.method, run.start.label, run.start.seed) == ("set", "SET", 0)
    assert run.start.setup["Batch size"] == "128"
    assert [(item.step, item.test_accuracy, item.seconds) for item in run.evaluations] == [
        (0, 0.1, 0.0),
        (10, 0.5, 1.5),
    ]
    assert [(item.step, item.num_dropped, item.num_grown) for item in run.updates] == [(5, 3, 2)]
    assert run.before[0].density == 3 / 8
    assert run.before[0].in_degrees == ((1, 1), (2, 1))
    assert run.after == ()
    assert run.status == "finished"


def test_a_comparison_holds_a_run_for_each_method_and_seed(tmp_path: Path) -> None:
    runs = read_runs(write_comparison(tmp_path, ["dense", "set"], num_seeds=2))

    assert [run.name for run in runs] == ["dense-seed0", "dense-seed1", "set-seed0", "set-seed1"]


def test_unknown_events_and_keys_are_passed_over(tmp_path: Path) -> None:
    events: list[Event] = [{**start("set"), "colour": "red"}, {"event": "weather", "step": "wet"}, {"step": 3}]

    run = read_run(write_run(tmp_path, events))

    assert run.start.method == "set"
    assert run.last_step == 0


def test_a_killed_run_tells_what_it_knows(tmp_path: Path) -> None:
    events = [start("set"), evaluation(0, 0.1), evaluation(10, 0.8, 2.0, 40), evaluation(20, 0.7, 4.0, 50)]

    run = read_run(write_run(tmp_path, events, tail='{"event": "evaluation", "st'))

    assert run.status == "killed"
    assert (run.final_accuracy, run.best_accuracy, run.seconds, run.num_active) == (0.7, 0.8, 4.0, 50)
    assert run.last_step == 20


def test_a_run_killed_before_its_first_line_is_named_by_its_folder(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "set-seed3", [])

    (run,) = read_runs(tmp_path)

    assert (run.start.method, run.start.seed, run.status) == ("set", 3, "killed")


def test_what_a_resumed_run_repeats_replaces_what_was_there(tmp_path: Path) -> None:
    first = [start("set"), evaluation(0, 0.1), update(5), evaluation(10, 0.2), update(15), evaluation(20, 0.3)]
    again = [start("set"), update(15), evaluation(20, 0.4), evaluation(30, 0.5)]
    stopped = end(0.3, 4.0, 0.05, status="stopped")

    run = read_run(write_run(tmp_path, [*first, stopped, *again]))

    assert [(item.step, item.test_accuracy) for item in run.evaluations] == [
        (0, 0.1),
        (10, 0.2),
        (20, 0.4),
        (30, 0.5),
    ]
    assert [item.step for item in run.updates] == [5, 15]
    assert run.status == "killed"


def test_a_diverged_run_has_no_accuracy(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path, [start("set"), evaluation(0, 0.1), evaluation(10, float("nan"))]))

    assert run.evaluations[-1].test_accuracy is None
    assert run.final_accuracy == 0.1


@pytest.mark.parametrize("line", ['{"event": "evalu', "[1, 2]", "7"])
def test_a_broken_earlier_line_is_an_error_with_file_and_line(tmp_path: Path, line: str) -> None:
    path = write_run(tmp_path, [start("set")], tail=f"{line}\n{json.dumps(evaluation(0, 0.1))}\n")

    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2: "):
        read_run(path)


@pytest.mark.parametrize(
    ("event", "named"),
    [
        ({"event": "start"}, "method is missing"),
        ({"event": "evaluation", "test_accuracy": 0.5}, "step is missing"),
        ({"event": "evaluation", "step": "ten"}, "step must be a number, not 'ten'"),
        ({"event": "evaluation", "step": True}, "step must be a number, not True"),
        ({"event": "update", "step": 1, "num_grown": 2}, "num_dropped is missing"),
        ({"event": "layers", "when": "after", "layers": 3}, "layers must be a list"),
        ({"event": "layers", "when": "after", "layers": ["0"]}, "a layer must be an object"),
        (
            {
                "event": "layers",
                "when": "after",
                "layers": [{"name": "0", "num_active": 1, "in_degrees": [3]}],
            },
            "in_degrees must hold pairs",
        ),
        ({"event": "end", "where": {"forward": "long"}}, "forward must be a number"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, event: Event, named: str) -> None:
    path = write_run(tmp_path, [event, *run_events("set", 0)])

    with pytest.raises(ValueError, match=f"line 1: {named}"):
        read_run(path)


@pytest.mark.parametrize("name", ["", "nowhere"])
def test_a_folder_without_a_run_is_an_error_of_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "runs" / "set-seed0").mkdir(parents=True)

    with pytest.raises(FileNotFoundError, match="no run in ") as caught:
        read_runs(tmp_path / name)
    assert "\n" not in str(caught.value)
