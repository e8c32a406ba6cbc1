"""gossamer methods: every recipe, with its paper."""

import json
import sys

from rich.console import Console
from rich.table import Table

from gossamer.cli import options as o
from gossamer.training import METHODS


def methods(as_json: o.Json = False) -> None:
    """List the methods, what they do and where they were published."""
    if as_json:
        rows = [
            {"name": m.name, "summary": m.summary, "paper": m.paper, "truly_sparse": m.truly_sparse} for m in METHODS
        ]
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    table = Table()
    for header in ("--method", "what it does", "trains on", "paper"):
        table.add_column(header, no_wrap=header == "--method", overflow="fold")
    for method in METHODS:
        trains_on = "truly sparse" if method.truly_sparse else "dense" if method.name == "dense" else "masked"
        table.add_row(method.name, method.summary, trains_on, method.paper)
    Console().print(table)
