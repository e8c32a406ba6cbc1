import fcntl
import os
from pathlib import Path

import pytest

from gossamer.cli.folder import claim

from .shell import TINY, events, finish, good, listing, model, refused, spawn, wait_for


def test_a_folder_with_a_run_is_not_taken(own_folder: Path) -> None:
    good("train", "--out", "x", *TINY)
    before = Path("x/metrics.jsonl").read_bytes()

    line = refused("train", "--out", "x", *TINY)

    assert line == "x holds a run already; --resume goes on with it, --overwrite replaces it, --out takes another"
    assert refused("compare", "--out", "x", *TINY) == line
    assert Path("x/metrics.jsonl").read_bytes() == before


def test_overwriting_deletes_nothing_but_results(own_folder: Path) -> None:
    good("train", "--out", "x", *TINY)
    foreign = ["notes.txt", "data.npz", ".config.toml.swp", "runs/set-seed0/notes.txt", "runs/other/metrics.jsonl"]
    foreign += ["runs/other/model.safetensors", "sub/config.toml"]
    for name in foreign:
        Path("x", name).parent.mkdir(parents=True, exist_ok=True)
        Path("x", name).write_text("mine")

    good("train", "--out", "x", *TINY, "--overwrite", "--seed", "1")

    assert [Path("x", name).read_text() for name in foreign] == ["mine"] * len(foreign)
    assert events(Path("x"))[0]["seed"] == 1


def test_overwriting_in_the_folder_above_spares_the_runs_of_others(own_folder: Path) -> None:
    # runs/ is where results go unless --out says otherwise.
    good("train", *TINY)
    good("train", "--out", ".", *TINY)

    good("train", "--out", ".", *TINY, "--overwrite")

    assert Path("runs/digits-set/model.safetensors").is_file()


def test_a_foreign_file_is_not_in_the_way(own_folder: Path) -> None:
    Path("x").mkdir()
    Path("x/notes.txt").write_text("mine")

    good("train", "--out", "x", *TINY)

    assert Path("x/notes.txt").read_text() == "mine"


def test_out_may_not_be_a_file_nor_lie_in_one(own_folder: Path) -> None:
    Path("x").write_text("mine")

    assert refused("train", "--out", "x", *TINY) == "x is a file; give --out a folder"
    assert refused("train", "--out", "x/y", *TINY).startswith("cannot write to the folder x/y (Not a directory)")
    assert Path("x").read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_named(own_folder: Path) -> None:
    Path("x").mkdir(mode=0o500)
    if os.access("x", os.W_OK):
        pytest.skip("root may write everywhere")

    line = refused("train", "--out", "x", *TINY)

    assert line == "cannot write to the folder x (Permission denied); give another --out"


def test_what_a_killed_process_left_aside_is_cleared(own_folder: Path) -> None:
    good("train", "--out", "x", *TINY)
    Path("x/.checkpoint.pt.ab12_xyz.part").write_bytes(b"half")
    Path("x/.lock").touch()

    good("train", "--out", "x", *TINY, "--resume")

    assert listing(Path("x")) == ["checkpoint.pt", "config.toml", "metrics.jsonl", "model.safetensors", "report.html"]


def test_a_folder_that_is_held_is_refused_and_free_again_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    with (
        claim(folder, resume=False, overwrite=False),
        pytest.raises(ValueError, match=r"another run is writing to .*x; wait for it, or give another --out"),
        claim(folder, resume=False, overwrite=False),
    ):
        pass

    with claim(folder, resume=False, overwrite=False):
        assert listing(folder) == [".lock"]
    assert not folder.exists()


def test_a_lock_that_its_holder_has_deleted_meanwhile_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder deletes the lock file after we opened it and before we lock it: ours would hold nobody off."""
    flock, calls = fcntl.flock, 0

    def slow(file: object, operation: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            (tmp_path / "x" / ".lock").unlink()
        flock(file, operation)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", slow)
    with claim(tmp_path / "x", resume=False, overwrite=False):
        monkeypatch.undo()
        with pytest.raises(ValueError, match="another run"), claim(tmp_path / "x", resume=False, overwrite=False):
            pass

    assert calls == 2


def test_of_two_processes_on_one_folder_one_runs_and_one_is_told(own_folder: Path) -> None:
    words = ["train", "--out", "x", *TINY, "--epochs", "100000"]
    first = spawn(*words)
    wait_for(Path("x/checkpoint.pt").is_file, first)

    assert refused(*words, "--resume") == "another run is writing to x; wait for it, or give another --out"
    assert refused(*words, "--overwrite").startswith("another run is writing to x")

    first.terminate()
    code, out, err = finish(first)
    assert (code, out) == (130, "")
    assert "--resume" in err
    assert not Path("x/.lock").exists()
    assert not Path("x/model.safetensors").exists()


def test_a_new_folder_of_a_run_that_fails_before_it_begins_is_gone(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="at once"), claim(tmp_path / "a" / "b", resume=False, overwrite=False):
        raise RuntimeError("at once")

    assert not (tmp_path / "a" / "b").exists()


def test_an_empty_folder_of_the_users_stays(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="at once"), claim(tmp_path, resume=False, overwrite=False):
        raise RuntimeError("at once")

    assert listing(tmp_path) == []
    assert tmp_path.is_dir()


def test_overwriting_with_the_same_settings_gives_the_same_model(own_folder: Path) -> None:
    good("train", "--out", "x", *TINY)
    first = model(Path("x"))["0.values"].clone()

    good("train", "--out", "x", *TINY, "--overwrite")

    assert model(Path("x"))["0.values"].equal(first)


def test_what_is_overwritten_is_gone_even_if_the_new_run_fails() -> None:
    good("train", "--out", "x", *TINY)

    refused("train", "--out", "x", *TINY, "--overwrite", "--lr", "1e38")

    assert not Path("x/model.safetensors").exists()
    assert not Path("x/report.html").exists()
