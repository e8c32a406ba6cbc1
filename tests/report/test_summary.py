from dataclasses import replace
from pathlib import Path

import pytest

from gossamer.report.read import read_run
from gossamer.report.records import Run
from gossamer.report.summary import Spread, curve, ratio, summarise, updates

from .fake import Event, end, evaluation, start, write_run


def make_run(folder: Path, method: str, seed: int, *events: Event) -> Run:
    return read_run(write_run(folder / f"{method}-seed{seed}", [start(method, seed), *events]))


def test_seeds_are_put_together_as_mean_and_sample_deviation(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, "set", seed, end(0.9 + 0.02 * seed, 4.0 + seed, 0.05)) for seed in (0, 1)]

    (summary,) = summarise(runs)

    assert summary.final_accuracy is not None
    assert summary.final_accuracy.mean == pytest.approx(0.91)
    assert summary.final_accuracy.deviation == pytest.approx(0.02 / 2**0.5)
    assert summary.step_ms == pytest.approx((4.5, 0.5**0.5))
    assert summary.density == pytest.approx(0.05)


def test_dense_comes_first_then_the_names(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, method, 0) for method in ("set", "rigl", "dense")]

    assert [summary.method for summary in summarise(runs)] == ["dense", "rigl", "set"]


def test_an_unfinished_run_does_not_enter_the_mean_of_finished_ones(tmp_path: Path) -> None:
    done = make_run(tmp_path, "set", 0, end(0.9, 4.0, 0.05))
    killed = make_run(tmp_path, "set", 1, evaluation(10, 0.2))

    (summary,) = summarise([done, killed])

    assert summary.final_accuracy == Spread(0.9, None)
    assert (summary.finished, len(summary.runs), summary.num_runs) == (True, 1, 2)


def test_without_a_finished_run_the_unfinished_ones_speak(tmp_path: Path) -> None:
    (summary,) = summarise([make_run(tmp_path, "set", 0, evaluation(10, 0.2))])

    assert summary.final_accuracy == Spread(0.2, None)
    assert not summary.finished
    assert summary.step_ms is None


def test_a_curve_keeps_the_steps_that_all_seeds_share(tmp_path: Path) -> None:
    first = make_run(tmp_path, "set", 0, evaluation(0, 0.1), evaluation(10, 0.5, 1.0), evaluation(20, 0.7, 2.0))
    other = make_run(tmp_path, "set", 1, evaluation(0, 0.3), evaluation(15, 0.6, 2.0), evaluation(20, 0.7, 4.0))

    points = curve([first, other])

    assert [(point.step, point.seconds) for point in points] == [(0, 0.0), (20, 3.0)]
    assert points[0].accuracy == pytest.approx((0.2, 0.2 / 2**0.5))
    assert points[1].accuracy == pytest.approx((0.7, 0.0))


def test_a_curve_leaves_out_a_step_at_which_a_seed_had_diverged(tmp_path: Path) -> None:
    first = make_run(tmp_path, "set", 0, evaluation(0, 0.1), evaluation(10, 0.5))
    other = make_run(tmp_path, "set", 1, evaluation(0, 0.1), evaluation(10, float("nan")))

    assert [point.step for point in curve([first, other])] == [0]


def test_updates_are_means_over_seeds(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path, "set", 0, {"event": "update", "step": 5, "num_dropped": 4, "num_grown": 2}),
        make_run(tmp_path, "set", 1, {"event": "update", "step": 5, "num_dropped": 6, "num_grown": 2}),
    ]

    assert updates(runs) == [(5, 5.0, 2.0)]
    assert updates([*runs, replace(runs[0], updates=())]) == []


def test_a_ratio_needs_both_values_and_a_dense_one_above_zero() -> None:
    assert ratio(Spread(3.0, None), Spread(4.0, 1.0)) == 0.75
    assert ratio(None, Spread(4.0, None)) is None
    assert ratio(Spread(3.0, None), None) is None
    assert ratio(Spread(3.0, None), Spread(0.0, None)) is None
