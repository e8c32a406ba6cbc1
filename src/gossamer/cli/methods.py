"""gossamer methods: every recipe, with its paper."""

import json
import sys
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from gossamer.cli import options as o
from gossamer.cli.in_python import in_python
from gossamer.pruning import PRUNING_METHODS
from gossamer.training import METHODS


def methods(as_json: o.Json = False) -> None:
    """List the methods, what they do and where they were published: of train and compare, of prune, and in Python."""
    if as_json:
        rows = [
            {
                "name": m.name,
                "summary": m.summary,
                "paper": m.paper,
                "truly_sparse": m.truly_sparse,
                "from_dense": m.from_dense,
            }
            for m in METHODS
        ]
        cuts = [{"name": m.name, "summary": m.summary, "paper": m.paper} for m in PRUNING_METHODS]
        others = [told._asdict() for told in in_python()]
        sys.stdout.write(json.dumps({"training": rows, "pruning": cuts, "python": others}, indent=2) + "\n")
        return
    table = _table("gossamer train, gossamer compare", "trains on")
    for method in METHODS:
        trains_on = "truly\nsparse" if method.truly_sparse else "dense" if method.name == "dense" else "masked"
        table.add_row(method.name, method.summary, trains_on, _paper(method.paper))
    Console().print(table)
    table = _table("gossamer prune", "masks")
    for cut in PRUNING_METHODS:
        table.add_row(cut.name, cut.summary, str(cut.pattern).removesuffix("()"), _paper(cut.paper))
    Console().print(table)
    for module, things in groupby(in_python(), lambda told: told.module):
        table = _table(f"in Python, for a training loop of your own: {module}", first="name")
        for told in things:
            table.add_row(told.name, told.summary, _paper(told.paper))
        Console().print(table)


def _paper(text: str) -> str:
    """Author and year above the number, so that what a method does has the room."""
    return text.replace(", arXiv:", "\narXiv:")


def _table(title: str, *third: str, first: str = "--method") -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, show_edge=False, pad_edge=False
    )
    for header in (first, "what it does", *third, "paper"):
        table.add_column(header, no_wrap=header == first, overflow="fold")
    return table
