import json
import re
import sys
from collections.abc import Sequence

import pytest

from gossamer.cli.in_python import in_python

from .shell import TINY, good, gossamer, refused


def test_without_a_command_the_help_is_shown_and_no_error_line() -> None:
    code, out, err = gossamer()

    assert code == 2
    assert "compare" in out + err
    assert "error" not in err


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["compare", "--help"], ["inspect", "--help"]])
def test_help_is_a_success(words: list[str]) -> None:
    assert "Usage: gossamer" in good(*words).out


def test_version_needs_no_command() -> None:
    assert re.fullmatch(r"gossamer \d+\.\d+\.\d+\n", good("--version").out)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["tarin"], "No such command 'tarin'"),
        (["train", "--epoch", "3"], "--epochs"),
        (["train", "--epochs", "1.5"], "--epochs"),
        (["train", "--sparsity", "high"], "--sparsity"),
        (["train", "--sparsity"], "--sparsity"),
        (["train", "surplus"], "surplus"),
        (["inspect"], "path"),
        (["methods", "--sparsity", "0.5"], "--sparsity"),
    ],
)
def test_a_wrong_command_line_is_one_line_that_names_the_word(words: Sequence[str], part: str) -> None:
    assert part in refused(*words)


def test_methods_lists_each_with_its_paper() -> None:
    out = good("methods").out

    for text in ("dense", "static", "set", "rigl", "gmp", "truly_sparse", "1911.11134", "1707.04780", "2102.01732"):
        assert text in out


def test_methods_say_author_and_number_on_two_lines() -> None:
    lines = good("methods").out.splitlines()

    (first,) = [number for number, line in enumerate(lines) if "Evci et al. 2020" in line]
    assert lines[first].startswith("rigl ")
    assert lines[first + 1].rstrip().endswith(" arXiv:1911.11134")


def test_methods_in_a_narrow_terminal_cut_no_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")

    out = good("methods").out

    assert "…" not in out
    assert max(map(len, out.splitlines())) <= 60


def test_methods_as_json_are_json_alone() -> None:
    found = json.loads(good("methods", "--json").out)

    rows = {row["name"]: (row["truly_sparse"], row["from_dense"]) for row in found["training"]}
    assert (rows["rigl"], rows["snip"], rows["dpf"]) == ((True, False), (True, True), (False, True))
    assert found["pruning"][0]["name"] == "magnitude"
    assert {"module": "gs.recipes", "name": "edge_popup_"}.items() <= found["python"][2].items()


def test_methods_of_python_alone_are_told_with_their_papers() -> None:
    found = {f"{told.module}.{told.name}": told for told in in_python()}

    assert found["gs.reparametrizations.HardConcrete"].paper == "Louizos, Welling, Kingma 2018, arXiv:1712.01312"
    assert found["gs.recipes.lottery_tickets"].paper == "Frankle, Carbin 2019, arXiv:1803.03635"
    assert not [name for name, told in found.items() if not re.search(r"[A-Z].* (19|20)\d\d", told.paper)]
    assert not [name for name, told in found.items() if len(told.summary.split()) < 4]


def test_a_mistake_shows_its_traceback_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOSSAMER_TRACEBACK", "1")

    with pytest.raises(ValueError, match="unknown method 'sett'"):
        gossamer("train", "--method", "sett")


def test_our_own_mistakes_are_not_taken_for_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise AssertionError("ours")

    # Not by its dotted name: gossamer.cli.train is the function.
    monkeypatch.setattr(sys.modules["gossamer.cli.train"], "load_data", broken)

    with pytest.raises(AssertionError, match="ours"):
        gossamer("train")


def test_a_letter_that_the_terminal_lacks_ends_nothing() -> None:
    code, out, err = gossamer("compare", "--methods", "static", "--seeds", "2", "--out", "x", *TINY, encoding="ascii")

    assert (code, err) == (0, "")
    assert re.search(r"\d \? \d", out)


def test_the_help_names_a_first_command() -> None:
    assert "gossamer compare --data digits" in good("--help").out
