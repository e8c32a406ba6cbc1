import re
import statistics
import tomllib
from pathlib import Path

import pytest

from .shell import TINY, events, good, listing, refused

TWO = ("--methods", "dense,set", "--seeds", "2", "--out", "x")


def test_a_comparison_is_one_table_with_mean_and_deviation_and_one_page(own_folder: Path, whole_page: None) -> None:
    out = good("compare", "--methods", "dense,static,set,rigl", "--seeds", "2", "--seed", "5", *TINY).out

    assert "digits, mlp:16x2, 2 seeds, 3 epochs" in out
    folder = Path("runs/compare-digits")
    assert {path.name for path in (folder / "runs").iterdir()} == {
        f"{method}-seed{seed}" for method in ("dense", "static", "set", "rigl") for seed in (5, 6)
    }
    accuracies = [100 * events(folder / "runs" / f"set-seed{seed}")[-1]["final_accuracy"] for seed in (5, 6)]
    mean, deviation = statistics.fmean(accuracies), statistics.stdev(accuracies)
    assert f"{mean:.1f} ± {deviation:.1f} %" in next(line for line in out.splitlines() if line.startswith("SET "))
    assert out.endswith("report runs/compare-digits/report.html\n")
    assert "plotly" in (folder / "report.html").read_text()
    assert "\x1b" not in out


def test_one_seed_has_no_deviation() -> None:
    assert "±" not in good("compare", "--methods", "static,set", "--out", "x", *TINY).out


def test_json_holds_every_run() -> None:
    result = good("compare", *TWO, *TINY, "--json").json

    assert list(result["results"]) == ["dense", "SET"]
    assert [run["seed"] for run in result["results"]["SET"]] == [0, 1]


@pytest.mark.parametrize("columns", ["30", "45", "60", "80", "120", "200"])
def test_tables_fit_the_terminal_and_cut_nothing(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)

    out = good("compare", *TWO, *TINY).out

    table = out[: out.index("0.5x")]
    assert max(map(len, table.splitlines()[1:])) <= int(columns)
    assert "…" not in out
    for header in ("sparsity", "accuracy", "best", "training", "step", "inference", "model file", "in training"):
        assert len(re.findall(rf"(?:^|  ){header}(?:$|  )", table, re.MULTILINE)) == 1
    assert table.count("SET ") == table.count("method")


def test_what_is_not_faster_or_smaller_than_dense_is_said() -> None:
    out = good("compare", "--methods", "dense,static", "--out", "x", *TINY, "--sparsity", "0.1").out

    assert re.search(r"^static: .*the file is not smaller.* than dense\.$", out, re.MULTILINE)


def test_what_ends_dense_is_not_called_sparse_nor_smaller(whole_page: None) -> None:
    out = good("compare", "--methods", "dense,dsd,set", "--out", "x", *TINY).out

    assert re.search(r"^DSD +0\.0 %", out, re.MULTILINE)
    assert "\nDSD: it ended dense, no weight is missing.\n" in out
    assert re.search(r"^DSD: .*the file is not smaller.* than dense\.$", out, re.MULTILINE)
    assert "with 100.0\u00a0% of the weights: it is not sparse." in Path("x/report.html").read_text()


def test_dense_may_have_a_learning_rate_of_its_own() -> None:
    good("compare", *TWO, *TINY, "--dense-lr", "0.01")

    rates = {
        path.parent.name: tomllib.loads(path.read_text())["learning_rate"] for path in Path("x/runs").glob("*/*.toml")
    }
    assert rates == {"dense-seed0": 0.01, "dense-seed1": 0.01, "set-seed0": 0.05, "set-seed1": 0.05}


def test_resuming_a_finished_comparison_prints_the_same_and_trains_nothing() -> None:
    first = good("compare", *TWO, *TINY)
    before = {path: path.stat().st_mtime_ns for path in Path("x/runs").rglob("*") if path.is_file()}

    again = good("compare", *TWO, *TINY, "--resume")

    assert again.out == first.out
    assert {path: path.stat().st_mtime_ns for path in Path("x/runs").rglob("*") if path.is_file()} == before


def test_more_methods_and_seeds_may_join_a_comparison() -> None:
    good("compare", "--methods", "set", "--out", "x", *TINY)
    before = Path("x/runs/set-seed0/metrics.jsonl").read_bytes()

    good("compare", "--methods", "static,set", "--seeds", "2", "--out", "x", *TINY, "--resume")

    assert Path("x/runs/set-seed0/metrics.jsonl").read_bytes() == before
    assert len(list(Path("x/runs").iterdir())) == 4


def test_resuming_with_a_changed_option_names_it_and_changes_nothing() -> None:
    good("compare", *TWO, *TINY)
    before = Path("x/config.toml").read_bytes()

    line = refused("compare", *TWO, *TINY, "--resume", "--epochs", "4", "--lr", "0.1")

    assert (
        line == "the run in x was started with --epochs 3, not 4, --lr 0.05, not 0.1; resume it with the same options"
    )
    assert Path("x/config.toml").read_bytes() == before


def test_a_single_run_and_a_comparison_do_not_resume_each_other() -> None:
    good("compare", *TWO, *TINY)
    good("train", "--out", "y", *TINY)

    assert refused("train", "--method", "dense", "--out", "x", *TINY, "--resume") == (
        "x holds a comparison; resume it with gossamer compare"
    )
    assert refused("compare", "--out", "y", *TINY, "--resume") == (
        "y holds a single run; resume it with gossamer train"
    )


def test_overwriting_a_comparison_with_a_smaller_one_leaves_none_of_its_runs() -> None:
    good("compare", *TWO, *TINY)

    good("compare", "--methods", "static", "--out", "x", *TINY, "--overwrite")

    assert [name for name in listing(Path("x/runs")) if "/" not in name] == ["static-seed0"]
