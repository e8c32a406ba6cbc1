"""What was measured once on this machine, so that it need not be again: a small JSON file for each question."""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gossamer import atomic
from gossamer.machine import describe_machine


def folder() -> Path:
    """Return where measurements are kept: in $GOSSAMER_CACHE, else in gossamer/ of the user's cache folder."""
    if own := os.environ.get("GOSSAMER_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gossamer"


def path_of(question: Mapping[str, Any]) -> Path:
    """Return the file that holds the answer to a question on this machine with these versions, if there is one.

    Args:
        question: everything that the answer depends on beside the machine, as JSON takes it.
    """
    text = json.dumps({"machine": describe_machine(), **question}, sort_keys=True)
    return folder() / f"accelerate-{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def read(path: Path) -> dict[str, Any] | None:
    """Return what a file holds; None where there is none, or one that is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def write(path: Path, answer: Mapping[str, Any]) -> None:
    """Keep an answer; where that cannot be done nothing is kept, which costs time later and nothing else."""

    def fill(aside: Path) -> None:
        aside.write_text(json.dumps(answer, indent=1), encoding="utf-8")

    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(path, fill)
