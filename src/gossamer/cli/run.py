"""Run one configuration in one folder, new or resumed."""

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gossamer.data import Dataset
from gossamer.training import Config, differences, read_config, train, write_config
from gossamer.training.loop import MODEL, Watcher


def repeating_command() -> str:
    """Return the command line that was typed, without what belongs to this one run."""
    typed = [word for word in sys.argv[1:] if word not in ("--resume", "--overwrite")]
    return shlex.join(["gossamer", *typed])


def run_in(
    folder: Path,
    config: Config,
    dataset: Dataset,
    *,
    resume: bool,
    command: str,
    watch: Watcher,
    should_stop: Callable[[], bool],
) -> dict[str, Any]:
    """Train a configuration in its folder, or return what a finished run reached.

    Returns:
        The fields of the `end` event and `num_weights`.

    Raises:
        ValueError: the folder's run has another configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if resume and (folder / "config.toml").is_file():
        if changed := differences(config, read_config(folder / "config.toml")):
            raise ValueError(f"the run in {folder} was started with {'; '.join(changed)}; resume it with the same")
        if finished := _finished(folder):
            return finished
    else:
        write_config(folder / "config.toml", config, command=command)
    fields = train(config, dataset, folder, resume=resume, watch=watch, should_stop=should_stop)
    return {**fields, "num_weights": _event(folder, "start")["num_weights"]}


def results_json(results: dict[str, list[dict[str, Any]]], config: Config, folder: Path) -> str:
    """Return configuration and results as one JSON object."""
    return json.dumps({"config": asdict(config), "results": results, "folder": str(folder)}, indent=2)


def _finished(folder: Path) -> dict[str, Any] | None:
    end = _event(folder, "end")
    if end.get("status") != "finished" or not (folder / MODEL).is_file():
        return None
    del end["event"]
    return {**end, "num_weights": _event(folder, "start")["num_weights"]}


def _event(folder: Path, name: str) -> dict[str, Any]:
    """The last event of a name, or an empty one."""
    found: dict[str, Any] = {}
    path = folder / "metrics.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        event = json.loads(line) if line.endswith("}") else {}
        found = event if event.get("event") == name else found
    return found
