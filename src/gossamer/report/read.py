"""Read the runs of one folder from their metrics.jsonl files."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from gossamer.report.parse import Event, parse_end, parse_evaluation, parse_layers, parse_start, parse_update
from gossamer.report.records import End, Evaluation, Layer, Run, Start, Update

Item = TypeVar("Item", Evaluation, Update)


def read_runs(folder: Path) -> list[Run]:
    """Read every run of a folder: its own metrics.jsonl and those in runs/*/.

    Args:
        folder: a run folder as `gossamer train` or `gossamer compare` writes it.

    Returns:
        The runs, in the order of their paths.

    Raises:
        FileNotFoundError: the folder does not exist or holds no metrics.jsonl.
        ValueError: a line other than the last is broken; the text names file and line.
    """
    paths = [folder / "metrics.jsonl", *sorted(folder.glob("runs/*/metrics.jsonl"))]
    found = [path for path in paths if path.is_file()]
    if not found:
        raise FileNotFoundError(
            f"no run in {folder}: neither metrics.jsonl nor runs/*/metrics.jsonl is there; "
            "give the folder that gossamer train or gossamer compare wrote"
        )
    return [read_run(path) for path in found]


def read_run(path: Path) -> Run:
    """Read one metrics.jsonl; unknown events and keys are passed over.

    Args:
        path: the file. A resumed run goes on in the same file: what it repeats replaces what was there.

    Returns:
        The run; `end` is None where the file stops before its end.

    Raises:
        ValueError: a line other than the last is no JSON object, or a known key has a wrong value.
    """
    draft = _Draft()
    for number, event in _events(path):
        try:
            _take(draft, event)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
    return Run(
        name=path.parent.name,
        start=draft.start or _unstarted(path.parent.name),
        evaluations=tuple(draft.evaluations),
        updates=tuple(draft.updates),
        before=draft.layers.get("before", ()),
        after=draft.layers.get("after", ()),
        end=draft.end,
    )


@dataclass
class _Draft:
    start: Start | None = None
    end: End | None = None
    evaluations: list[Evaluation] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)
    layers: dict[str, tuple[Layer, ...]] = field(default_factory=dict)


def _events(path: Path) -> Iterator[tuple[int, Event]]:
    lines = path.read_bytes().decode(errors="replace").split("\n")
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    for number, line in numbered:
        try:
            event = json.loads(line)
        except json.JSONDecodeError as error:
            if number == numbered[-1][0]:  # the run was killed while writing it
                return
            raise ValueError(
                f"{path}, line {number}: not JSON ({error.msg} at column {error.colno}); "
                "only the last line may be cut off, so repair or delete this one"
            ) from error
        if not isinstance(event, dict):
            raise ValueError(f"{path}, line {number}: {event!r} is no JSON object; delete this line")
        yield number, event


def _take(draft: _Draft, event: Event) -> None:
    match event.get("event"):
        case "start":
            draft.start, draft.end = parse_start(event), None
        case "layers":
            when, layers = parse_layers(event)
            if when != "before" or when not in draft.layers:  # a resumed run began only once
                draft.layers[when] = layers
        case "evaluation":
            _append(draft.evaluations, parse_evaluation(event))
        case "update":
            _append(draft.updates, parse_update(event))
        case "end":
            draft.end = parse_end(event)


def _append(items: list[Item], item: Item) -> None:
    """Append; what a resumed run does again replaces what the interrupted one did after its checkpoint."""
    while items and items[-1].step >= item.step:
        items.pop()
    items.append(item)


def _unstarted(name: str) -> Start:
    """Return what the name of its folder tells of a run that was killed before its first line."""
    match = re.fullmatch(r"(.+)-seed(\d+)", name)
    method, seed = (match[1], int(match[2])) if match else (name, None)
    return Start(method=method, label=method, seed=seed, storage="", num_steps=None, num_weights=None, setup={})
