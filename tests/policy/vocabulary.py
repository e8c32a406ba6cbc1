"""The check of the vocabulary: names that code makes out of a word that the glossary replaces."""

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from .source import table_rows

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


class Banned(NamedTuple):
    """A word that is not used, the word that is, and the parts of the package that may use it all the same."""

    word: str
    instead: str
    allowed_in: frozenset[str]


def banned_words(glossary: str) -> list[Banned]:
    """Read the second table of the glossary."""
    rows = table_rows(glossary, "## Not these words")
    return [Banned(word, instead, frozenset(re.findall(r"\w+", parts))) for word, instead, parts in rows]


def synonyms(tree: ast.Module, part: str, banned: list[Banned]) -> list[str]:
    """Return one line for each name of a module that holds a banned word."""
    return [
        f"line {line}: {name}: not {entry.word} but {entry.instead}"
        for line, name in sorted(names_made(tree))
        for entry in banned
        if part not in entry.allowed_in and holds(name, entry.word)
    ]


def names_made(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and name of what a module names itself; a name that it only uses is another's."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from ((node.lineno, alias.asname) for alias in node.names if alias.asname)
        elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            yield node.lineno, node.name


def holds(name: str, word: str) -> bool:
    """Return whether the words of a name contain those of `word` in a row; a plural counts as its singular."""
    mine, theirs = _words(name), _words(word)
    return any(mine[i : i + len(theirs)] == theirs for i in range(len(mine) - len(theirs) + 1))


def _words(name: str) -> list[str]:
    words = [word.lower() for word in _WORD.findall(name)]
    return [word if word.endswith("ss") else word.removesuffix("s") for word in words]
