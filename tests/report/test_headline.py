from pathlib import Path

from gossamer.report import read_runs
from gossamer.report.headline import findings
from gossamer.report.summary import summarise

from .fake import end, evaluation, start, write_run

Result = tuple[float, float, float]


def told(folder: Path, **methods: list[Result]) -> list[str]:
    """Return the findings on methods given as (final accuracy, step ms, density) for each seed."""
    for method, results in methods.items():
        for seed, result in enumerate(results):
            write_run(folder / "runs" / f"{method}-seed{seed}", [start(method, seed), end(*result)])
    return [text.replace("\u00a0", " ") for text in findings(summarise(read_runs(folder)))]


def test_a_sparse_method_that_pays_is_praised_in_numbers(tmp_path: Path) -> None:
    said = told(tmp_path, dense=[(0.981, 10.0, 1.0)], set=[(0.978, 3.1, 0.05)])

    assert said == [
        "SET ended at 97.8 % with 5.0 % of the weights, 0.3 points below the dense network (98.1 %).",
        "A training step took 0.31\u00d7 the time of a dense one. "
        "The model file has 0.10\u00d7 the size of the dense one.",
    ]


def test_a_sparse_method_that_does_not_pay_is_told_so(tmp_path: Path) -> None:
    _, costs = told(tmp_path, dense=[(0.981, 10.0, 1.0)], rigl=[(0.978, 10.9, 0.6)])

    assert "1.09\u00d7 the time of a dense one: it is not faster." in costs
    assert "1.00\u00d7 the size of the dense one: it is not smaller." in costs


def test_a_ratio_that_shows_as_one_counts_as_not_faster(tmp_path: Path) -> None:
    _, costs = told(tmp_path, dense=[(0.981, 10.0, 1.0)], set=[(0.978, 9.96, 0.05)])

    assert "1.00\u00d7 the time of a dense one: it is not faster." in costs


def test_a_gap_inside_the_spread_over_seeds_is_called_that(tmp_path: Path) -> None:
    said = told(
        tmp_path,
        dense=[(0.970, 10.0, 1.0), (0.980, 10.0, 1.0)],
        set=[(0.974, 3.0, 0.05), (0.984, 3.0, 0.05)],
    )

    assert "0.4 points above the dense network (97.5 %), a difference within the spread over seeds." in said[0]


def test_equal_accuracies_are_level(tmp_path: Path) -> None:
    said = told(tmp_path, dense=[(0.98, 10.0, 1.0)], set=[(0.9801, 3.0, 0.05)])

    assert "level with the dense network" in said[0]


def test_a_method_that_ended_dense_is_no_sparse_one(tmp_path: Path) -> None:
    said = told(tmp_path, dense=[(0.98, 10.0, 1.0)], dsd=[(0.99, 12.0, 1.0)], set=[(0.97, 3.0, 0.05)])

    assert said[0].startswith("SET ended at 97.0 %")
    assert said[2:] == ["dsd ended at 99.0 % with 100.0 % of the weights: it is not sparse."]


def test_where_nothing_is_sparse_the_rival_of_dense_is_told_all_the_same(tmp_path: Path) -> None:
    said = told(tmp_path, dense=[(0.98, 10.0, 1.0)], dsd=[(0.99, 12.0, 1.0)])

    assert said[0].startswith("dsd ended at 99.0 % with 100.0 % of the weights, 1.0 points above")
    assert len(said) == 2


def test_several_sparse_methods_are_counted_and_the_fastest_is_named(tmp_path: Path) -> None:
    said = told(
        tmp_path,
        dense=[(0.98, 10.0, 1.0)],
        rigl=[(0.979, 11.0, 0.05)],
        static=[(0.95, 3.0, 0.05)],
    )

    assert said[0].startswith("RigL ended at 97.9 %")
    assert said[2] == (
        "Of the 2 sparse methods, 1 ended less than one point below the dense network or above it, "
        "1 needed less time for a step, and 2 wrote a smaller model file. "
        "Static sparse had the shortest step, 0.30\u00d7 the time of a dense one, and ended at 95.0 %."
    )


def test_without_a_dense_run_nothing_is_compared(tmp_path: Path) -> None:
    said = told(tmp_path, set=[(0.978, 3.1, 0.05)])

    assert said == [
        "SET ended at 97.8 % with 5.0 % of the weights.",
        "There is no dense run here to compare with.",
    ]


def test_a_dense_run_alone_speaks_for_itself(tmp_path: Path) -> None:
    assert told(tmp_path, dense=[(0.98, 10.0, 1.0)]) == ["The dense network ended at 98.0 %."]


def test_an_unfinished_run_does_not_claim_an_end(tmp_path: Path) -> None:
    write_run(tmp_path, [start("set"), evaluation(1200, 0.9)])

    assert told(tmp_path)[0].startswith("SET did not finish; at step 1,200 it stood at 90.0 %")


def test_a_folder_of_runs_without_an_evaluation_says_so(tmp_path: Path) -> None:
    write_run(tmp_path, [start("set")])

    assert told(tmp_path) == ["No run got as far as an evaluation."]
