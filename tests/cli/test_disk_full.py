import errno
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
import safetensors
import safetensors.torch
import torch

from .shell import TINY, assert_same_run, events, good, listing, refused


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in listing(folder) if (folder / name).is_file()}


def no_space(*args: object, **kwargs: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


def after(number: int, function: Callable[..., Any], failure: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, which fails from its n-th call on."""
    calls = 0

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        return (failure if calls >= number else function)(*args, **kwargs)

    return call


def save_half_and_fail(state: object, file: Any) -> NoReturn:
    file.write(b"half")
    no_space()


@contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    """Let the system refuse to make any file larger, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_checkpoint_that_finds_no_space_leaves_the_one_before(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good("train", "--out", "whole", *TINY)
    with monkeypatch.context() as patch:
        # The third is that of the second epoch.
        patch.setattr(torch, "save", after(3, torch.save, save_half_and_fail))
        line = refused("train", "--out", "x", *TINY)

    assert line == "the disk is full (x/checkpoint.pt); make room, then --resume goes on"
    assert listing(Path("x")) == ["checkpoint.pt", "config.toml", "metrics.jsonl"]
    assert torch.load("x/checkpoint.pt", weights_only=True)["progress"]["step"] == 5
    assert events(Path("x"))[-1]["step"] == 10
    good("train", "--out", "x", *TINY, "--resume")
    assert_same_run(Path("whole"), Path("x"))


def test_the_systems_own_refusal_is_told_and_leaves_what_was_there_whole(own_folder: Path) -> None:
    good("train", "--out", "whole", *TINY)
    with largest_file(Path("whole/metrics.jsonl").stat().st_size):
        line = refused("train", "--out", "x", *TINY)

    assert line == "[Errno 27] File too large: 'x/checkpoint.pt'"
    assert listing(Path("x")) == ["config.toml", "metrics.jsonl"]
    assert events(Path("x"))[-1]["event"] == "evaluation"
    good("train", "--out", "x", *TINY, "--resume")
    assert_same_run(Path("whole"), Path("x"))


def test_a_diary_that_finds_no_space_has_whole_lines(own_folder: Path) -> None:
    good("train", "--out", "whole", *TINY)
    lines = Path("whole/metrics.jsonl").read_bytes().splitlines(keepends=True)

    with largest_file(len(lines[0] + lines[1]) + 50):
        line = refused("train", "--out", "x", *TINY)

    assert line == "[Errno 27] File too large: 'x/metrics.jsonl'"
    assert [event["event"] for event in events(Path("x"))] == ["start", "layers"]
    good("train", "--out", "x", *TINY, "--resume")
    assert_same_run(Path("whole"), Path("x"))


def test_a_model_that_finds_no_space_is_not_there_and_the_run_goes_on(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> NoReturn:
        raise safetensors.SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    good("train", "--out", "whole", *TINY)
    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", fail)
        line = refused("train", "--out", "x", *TINY)

    assert line == "the disk is full (x/model.safetensors); make room, then --resume goes on"
    assert listing(Path("x")) == ["checkpoint.pt", "config.toml", "metrics.jsonl"]
    good("train", "--out", "x", *TINY, "--resume")
    assert_same_run(Path("whole"), Path("x"))


def test_a_page_that_finds_no_space_leaves_the_old_one(own_folder: Path, whole_page: None) -> None:
    good("train", "--out", "x", *TINY)
    before = contents(Path("x"))

    with largest_file(100_000):
        line = refused("train", "--out", "x", *TINY, "--resume")

    assert line.startswith("[Errno 27] File too large")
    assert contents(Path("x")) == before


def test_a_disk_that_is_full_from_the_first_leaves_no_run(own_folder: Path) -> None:
    with largest_file(0):
        refused("train", "--out", "x", *TINY)

    assert listing(own_folder) == []
    good("train", "--out", "x", *TINY)


IN_A_SMALL_DISK = """
import contextlib, io, json, subprocess, sys
from pathlib import Path

def run(*words):
    from gossamer import cli
    sys.argv = ["gossamer", *words]
    err = io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        try:
            cli.main()
        except SystemExit as end:
            return end.code, err.getvalue()
    return 0, err.getvalue()

words = json.loads(sys.argv[1])
full = run(*words)
left = sorted(path.name for path in Path("disk/x").iterdir())
whole = [json.loads(line)["event"] for line in Path("disk/x/metrics.jsonl").read_text().splitlines()]
subprocess.run(["mount", "-o", "remount,size=20m", "disk"], check=True)
print(json.dumps([full, left, whole, run(*words, "--resume")]))
"""


def test_on_a_disk_that_is_really_full_the_run_stops_and_goes_on_when_there_is_room(own_folder: Path) -> None:
    """A disk of 44 kB in a mount namespace of its own: the first checkpoint fits, the second beside it does not."""
    Path("disk").mkdir()
    mount = "mount -t tmpfs -o size=44k tmpfs disk"
    try:
        tried = subprocess.run(["unshare", "--mount", "sh", "-c", mount], capture_output=True, check=False).returncode
    except FileNotFoundError:
        tried = 1
    if tried:
        pytest.skip("no mount namespace may be made here")
    words = ["train", "--out", "disk/x", *TINY]
    good("train", "--out", "whole", *TINY)

    script = ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$0" -c "$1" "$2"', sys.executable, IN_A_SMALL_DISK]
    done = subprocess.run([*script, json.dumps(words)], capture_output=True, text=True, check=True)

    full, left, whole, resumed = json.loads(done.stdout)
    assert full == [2, "gossamer: error: the disk is full (disk/x/checkpoint.pt); make room, then --resume goes on\n"]
    assert left == ["checkpoint.pt", "config.toml", "metrics.jsonl"]
    assert whole == ["start", "layers", "evaluation", "update", "evaluation"]
    assert resumed == [0, ""]
    assert listing(Path("disk")) == []
