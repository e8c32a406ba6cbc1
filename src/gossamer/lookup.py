"""One row of a table by its name, and if there is none, an error that names the nearest."""

import difflib
from collections.abc import Sequence
from typing import Protocol, TypeVar


class Named(Protocol):
    """A record with a name."""

    @property
    def name(self) -> str:
        """What it is found by."""


Row = TypeVar("Row", bound=Named)


def find(rows: Sequence[Row], name: str, *, what: str) -> Row:
    """Return the row of a name.

    Args:
        rows: with different names.
        name: what a user gave.
        what: what the error calls a row, such as "method".

    Raises:
        ValueError: there is none; the error names the nearest.
    """
    for row in rows:
        if row.name == name:
            return row
    names = [row.name for row in rows]
    near = difflib.get_close_matches(name.lower(), names, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise ValueError(f"unknown {what} {name!r}; {hint}known are {', '.join(names)} (see: gossamer methods)")
