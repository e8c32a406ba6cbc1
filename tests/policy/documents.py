"""The checks of documents: python blocks, command lines and links."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_group

from gossamer.cli import app
from gossamer.pruning import find_pruning_method
from gossamer.training import find_method

from .source import blocks

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_SHELLS = ("console", "sh", "bash", "shell")


def run_python(path: Path) -> int:
    """Run the python blocks of a document in one namespace, as one program; return how many there are."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    found = [block for block in blocks(path.read_text(encoding="utf-8")) if block.language == "python"]
    for block in found:
        # Empty lines in front, so that an error names the line of the document.
        exec(compile("\n" * (block.line - 1) + block.text, str(path), "exec"), namespace)
    return len(found)


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command line in the shell blocks of a text; output of a console is passed over."""
    for block in blocks(text):
        if block.language in _SHELLS:
            for line in block.text.replace("\\\n", " ").splitlines():
                if line.startswith("$ ") or block.language != "console":
                    words = shlex.split(line.removeprefix("$ "), comments=True)
                    yield from _split_at_operators(words)


def _split_at_operators(words: list[str]) -> Iterator[list[str]]:
    command: list[str] = []
    for word in [*words, ";"]:
        if word in (";", "&&", "|"):
            yield from [command] if command else []
            command = []
        else:
            command.append(word)


def check_command(words: list[str]) -> None:
    """Parse a gossamer command line as the program would, without running it.

    Raises:
        Exception: an unknown subcommand, option or method.
    """
    group = get_group(app)
    rest = words[1:]
    if not rest or rest[0].startswith("-"):
        group.make_context("gossamer", rest or ["--help"])
        return
    name, command, arguments = group.resolve_command(group.make_context("gossamer", list(rest)), rest)
    if command is None:
        raise ValueError(f"no such subcommand: {name}")
    context = command.make_context(name, arguments)
    given = context.params.get("method") or context.params.get("methods")
    for method in str(given).split(",") if given else []:
        find_pruning_method(method.strip()) if name == "prune" else find_method(method.strip())


def broken_links(path: Path) -> list[str]:
    """Return the links to files and headings that are not there."""
    text = path.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [link for link in _LINK.findall(prose) if not re.match(r"(https?|mailto):", link) and not _leads(path, link)]


def _leads(path: Path, link: str) -> bool:
    file, _, heading = link.partition("#")
    target = (path.parent / file).resolve() if file else path
    if not target.exists():
        return False
    return not heading or heading in _anchors(target.read_text(encoding="utf-8"))


def _anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
