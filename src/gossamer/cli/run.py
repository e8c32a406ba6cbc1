"""Run one configuration in one folder, new or resumed."""

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from gossamer.data import Dataset
from gossamer.report import write_report
from gossamer.training import Config, differences, last_event, read_config, train, write_config
from gossamer.training.record import MODEL
from gossamer.training.steps import Watcher


def repeating_command() -> str:
    """Return the command line that was typed, without what belongs to this one run."""
    typed = [word for word in sys.argv[1:] if word not in ("--resume", "--overwrite")]
    return shlex.join(["gossamer", *typed])


def set_threads(threads: int) -> None:
    """Set the number of threads; 0 leaves torch's default.

    Raises:
        ValueError: negative, or more than there are processors.
    """
    most = os.cpu_count() or 1
    if not 0 <= threads <= most:
        raise ValueError(f"--threads must lie in 0 to {most}, the processors of this machine, got {threads}")
    if threads:
        torch.set_num_threads(threads)


def prints_to_stderr(wanted: bool) -> contextlib.AbstractContextManager[Any]:
    """Send to stderr what anybody prints, a user's model too: stdout is for the JSON alone."""
    return contextlib.redirect_stdout(sys.stderr) if wanted else contextlib.nullcontext()


def check_same(config: Config, folder: Path, *, ignore: Sequence[str] = ()) -> None:
    """Raise if the run in a folder was started with another configuration.

    Raises:
        ValueError: it was; the error names the options. Or its config.toml is broken.
    """
    changed = [
        f"{'--lr' if name == 'learning_rate' else '--' + name.replace('_', '-')} {theirs!r}, not {mine!r}"
        for name, (mine, theirs) in differences(config, read_config(folder / "config.toml")).items()
        if name not in ignore
    ]
    if changed:
        raise ValueError(f"the run in {folder} was started with {', '.join(changed)}; resume it with the same options")


def run_in(
    folder: Path,
    config: Config,
    dataset: Dataset,
    *,
    resume: bool,
    watch: Watcher,
    should_stop: Callable[[], bool],
) -> dict[str, Any]:
    """Train a configuration in its folder, or return what a finished run reached.

    Returns:
        The fields of the `end` event and the seed.

    Raises:
        ValueError: the folder's run has another configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if resume and (folder / "config.toml").is_file():
        check_same(config, folder)
        end = last_event(folder, "end")
        if end and end["status"] == "finished" and (folder / MODEL).is_file():
            del end["event"]
            return {"seed": config.seed, **end}
    else:
        write_config(folder / "config.toml", config, command=repeating_command())
    fields = train(config, dataset, folder, resume=resume, watch=watch, should_stop=should_stop)
    return {"seed": config.seed, **fields}


def write_page(folder: Path) -> str:
    """Write report.html and return where it is, or why there is none: a core installation lacks what it needs."""
    try:
        return str(write_report(folder))
    except ImportError as error:
        return f"none: {error}"


def results_json(results: Mapping[str, Sequence[Mapping[str, Any]]], config: Config, folder: Path) -> str:
    """Return configuration and results as one JSON object."""
    fields = {"config": asdict(config), "results": results, "folder": str(folder)}
    return json.dumps(fields, indent=2, allow_nan=False)
