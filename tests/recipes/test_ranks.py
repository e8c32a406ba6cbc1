import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent / "two_ranks.py"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Run two ranks and return what each of them found."""
    folder = tmp_path_factory.mktemp("ranks")
    ranks = [subprocess.Popen([sys.executable, str(SCRIPT), str(folder), str(rank)]) for rank in (0, 1)]
    try:
        codes = [rank.wait(timeout=120) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert codes == [0, 0]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("name", ["rigl", "gse"])
def test_ranks_that_share_a_model_keep_equal_topologies(found: list[dict[str, Any]], name: str) -> None:
    assert found[0][name] == found[1][name]
    assert found[0][name][0] != found[0][name][-1]


@pytest.mark.parametrize("name", ["rigl", "gse"])
def test_two_ranks_grow_what_one_process_grows_on_both_their_batches(found: list[dict[str, Any]], name: str) -> None:
    assert found[0][name] == found[0]["alone"][name]


def test_generators_of_different_seeds_are_found_out(found: list[dict[str, Any]]) -> None:
    for rank in (0, 1):
        assert found[rank]["set"].startswith("topologies differ between ranks after step 2; give the sparsifiers")


def test_a_model_that_lost_neurons_is_wrapped_anew(found: list[dict[str, Any]]) -> None:
    assert found[0]["neurons"]["trained"] == found[1]["neurons"]["trained"]


def test_what_processes_that_train_together_cannot_follow_is_refused(found: list[dict[str, Any]]) -> None:
    for rank in (0, 1):
        assert "change model.module in every process alike and wrap it anew" in found[rank]["neurons"]["refused"]
        assert found[rank]["neurons"]["differ"].startswith("neurons differ between ranks")
        assert "give compact=False" in found[rank]["neurons"]["recipe"]


def test_ranks_close_the_same_neurons(found: list[dict[str, Any]]) -> None:
    assert sum(found[0]["neurons"]["closed"]) == 2
    assert found[0]["neurons"]["closed"] == found[1]["neurons"]["closed"]
