"""The command line as a user meets it, in this process or in one of its own, and what it leaves behind."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from gossamer import cli, files

# Three epochs of five steps.
_SMALL = ("--model", "mlp:16x2", "--epochs", "3", "--train-size", "200", "--test-size", "100", "--batch-size", "40")
TINY = (*_SMALL, "--sparsity", "0.8", "--threads", "1")

_TIMES = {"seconds", "step_ms", "inference_ms", "where"}


class Screen(io.TextIOWrapper):
    """A stream that says of itself that somebody is looking at it."""

    def isatty(self) -> bool:
        return True


class Result(NamedTuple):
    """What a command left: exit code, stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def gossamer(*words: str, encoding: str = "utf-8", stderr: type[io.TextIOWrapper] = io.TextIOWrapper) -> Result:
    """Run one command line in this process, with streams of an encoding."""
    out, err = io.TextIOWrapper(io.BytesIO(), encoding=encoding), stderr(io.BytesIO(), encoding=encoding)
    before, sys.argv = sys.argv, ["gossamer", *words]
    code: object = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = before
    texts = []
    for stream in (out, err):
        stream.seek(0)
        texts.append(stream.read())
    assert isinstance(code, int)
    return Result(code, *texts)


def good(*words: str) -> Result:
    """Run one command line that must succeed."""
    result = gossamer(*words)
    assert (result.code, result.err) == (0, "")
    return result


def refused(*words: str) -> str:
    """Run one command line that must fail with one clear line, exit code 2 and silence on stdout; return the line."""
    code, out, err = gossamer(*words)
    assert (code, out) == (2, "")
    assert err.startswith("gossamer: error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err.removeprefix("gossamer: error: ").rstrip("\n")


def spawn(*words: str, **environment: str) -> subprocess.Popen[str]:
    """Start a command line as a process of its own, in the current folder."""
    return subprocess.Popen(
        [sys.executable, "-c", "from gossamer.cli import main; main()", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until something is so; fail if the process ends before."""
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.01)


def finish(process: subprocess.Popen[str]) -> Result:
    """Wait for the end of a process."""
    out, err = process.communicate(timeout=60)
    return Result(process.returncode, out, err)


def interrupt(process: subprocess.Popen[str]) -> None:
    """Press Ctrl-C."""
    process.send_signal(signal.SIGINT)


def events(folder: Path) -> list[dict[str, Any]]:
    """Return the diary of a run; every line must be whole."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def evaluations(folder: Path) -> int:
    """Return how many evaluations a run has written so far."""
    path = folder / "metrics.jsonl"
    return path.read_text().count('"evaluation"') if path.is_file() else 0


def timeless(folder: Path) -> list[dict[str, Any]]:
    """Return the diary without what a clock says."""
    return [{key: value for key, value in event.items() if key not in _TIMES} for event in events(folder)]


def model(folder: Path) -> Mapping[str, Tensor]:
    """Return the tensors of the saved model."""
    return files.read(folder / "model.safetensors").tensors


def assert_same_run(one: Path, other: Path) -> None:
    """The same model bit for bit and the same diary but for times."""
    mine, theirs = model(one), model(other)
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert tensor.dtype == theirs[name].dtype
        assert tensor.numpy().tobytes() == theirs[name].numpy().tobytes(), name
    assert timeless(one) == timeless(other)


def listing(folder: Path) -> list[str]:
    """Return every path in a folder, hidden ones too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
