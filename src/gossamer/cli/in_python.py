"""What there is in Python alone, told by its own docstrings."""

import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from gossamer import penalties, recipes, reparametrizations

# By the name under which people find them: these take a training loop of one's own.
_RECIPES = ("lottery_tickets", "EarlyBird", "edge_popup_", "supermask_")
_HELPERS = ("finish_", "mask", "penalty")


class Told(NamedTuple):
    """What a docstring says: where the thing is, what it does and where it was published."""

    module: str
    name: str
    summary: str
    paper: str


def in_python() -> list[Told]:
    """Return the methods that no command runs."""
    parts: list[tuple[str, Any, tuple[str, ...]]] = [
        ("recipes", recipes, _RECIPES),
        ("penalties", penalties, tuple(penalties.__all__)),
        ("reparametrizations", reparametrizations, tuple(reparametrizations.__all__)),
    ]
    return [
        _told(f"gs.{part}", name, getattr(module, name))
        for part, module, names in parts
        for name in names
        if name not in _HELPERS
    ]


def _told(module: str, name: str, thing: Callable[..., Any]) -> Told:
    text = inspect.getdoc(thing) or ""
    return Told(module, name, text.split("\n", 1)[0].rstrip("."), _paper(text.partition("Source:")[2]))


def _paper(source: str) -> str:
    """Authors, year and number of the first publication of a Source section."""
    first = " ".join(source.split())
    authors = first.split(". ", 1)[0]
    year, number = re.search(r"(19|20)\d\d", first), re.search(r"arXiv:[\d.]+\d", first)
    several = authors.split(", ")
    short = f"{several[0]} et al." if len(several) > 3 else authors
    return short + (f" {year[0]}" if year else "") + (f", {number[0]}" if number else "")
