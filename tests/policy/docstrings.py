"""The check of docstrings: which sections a function needs, and whether they fit its signature."""

import ast
import re

from .source import Function

_ENTRY = re.compile(r"^ {4}((?:\*{0,2}\w+)(?:, \w+)*): ", re.MULTILINE)


def section(docstring: str, name: str) -> str | None:
    """Return the text of a section, or None where there is none; docstring as `ast.get_docstring` cleans it."""
    match = re.search(rf"^{name}:(.*?)(?=^\S|\Z)", docstring, re.MULTILINE | re.DOTALL)
    return match[1] if match else None


def entries(docstring: str, name: str) -> list[str] | None:
    """Return the names that a section such as Args describes, in order."""
    text = section(docstring, name)
    return None if text is None else [word for names in _ENTRY.findall(text) for word in names.split(", ")]


def arguments(function: Function) -> list[str]:
    """Return the names of a function's arguments without self and cls."""
    parts = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    names = [part.arg for part in parts]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def fields(record: ast.ClassDef) -> list[str]:
    """Return the annotated names in the body of a class."""
    return [
        node.target.id for node in record.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]


def constructor(record: ast.ClassDef) -> list[str]:
    """Return the arguments of a class: those of its __init__, or the fields of a record."""
    for node in record.body:
        if isinstance(node, Function) and node.name == "__init__":
            return arguments(node)
    return fields(record)


def missing(node: Function | ast.ClassDef) -> list[str]:
    """Return what is wrong with the docstring of a public function or class anywhere: it lacks, or does not fit."""
    docstring = ast.get_docstring(node)
    if not docstring:
        return ["has no docstring"]
    described = entries(docstring, "Args")
    actual = constructor(node) if isinstance(node, ast.ClassDef) else arguments(node)
    return [] if described is None or described == actual else [f"Args describes {described}, it has {actual}"]


def missing_in_family(function: Function) -> list[str]:
    """Return the sections that a function of a family needs beside: Args, Returns and Raises."""
    docstring = ast.get_docstring(function) or ""
    faults = []
    if len(arguments(function)) > 1 and section(docstring, "Args") is None:
        faults.append("has no Args")
    if not _says_what_it_returns(function, docstring):
        faults.append("has no Returns")
    if _raises(function) and section(docstring, "Raises") is None:
        faults.append("has no Raises")
    return faults


def missing_source(function: Function) -> list[str]:
    """Return whether the Source section with a year is missing."""
    source = section(ast.get_docstring(function) or "", "Source") or ""
    return [] if re.search(r"\b(19|20)\d\d\b", source) else ["has no Source with a year"]


def _says_what_it_returns(function: Function, docstring: str) -> bool:
    """True with a section, where the first line is about it, and where a record or schedule speaks for itself."""
    if section(docstring, "Returns") is not None or docstring.startswith("Return "):
        return True
    returned = ast.unparse(function.returns) if function.returns else "None"
    return returned in ("None", "Topology", "Transpose", "Schedule", "Sparsifier")


def _raises(function: Function) -> bool:
    return any(isinstance(node, ast.Raise) for node in ast.walk(function))
