"""The check of the rings: which file of a package imports which, and whether it may."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from .source import module_name, parse, python_files

Rings = Sequence[Sequence[str]]


def part_of(module: str) -> str:
    """Return the file or folder below the package root that a module belongs to; the root itself has none."""
    return [*module.split("."), ""][1]


def breaches(package: Path, rings: Rings, families: int = 1) -> list[str]:
    """Return one line for each import that breaks the rules.

    Args:
        package: folder of the package.
        rings: the parts of each ring, the lowest first.
        families: the ring whose parts never import one another.
    """
    ring_of = {part: number for number, parts in enumerate(rings) for part in parts}
    modules = {module_name(path, package): path for path in python_files(package)}
    found, graph = [], {}
    for module, path in modules.items():
        if not (part := part_of(module)):
            continue
        if part not in ring_of:
            found.append(f"{module} has no ring")
            continue
        targets = set(imports(module, path, modules))
        graph[module] = {target for target in targets if part_of(target) and target != module}
        for target in sorted(targets):
            if fault := _fault(part, part_of(target), ring_of, families):
                found.append(f"{module} imports {target}: {fault}")
    return found + _cycles(graph)


def imports(module: str, path: Path, modules: Mapping[str, Path]) -> Iterator[str]:
    """Yield the modules of the package that a file imports, wherever in the file; a name of the root as the root."""
    root = module.split(".")[0]
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name if alias.asname else root for alias in node.names if _inside(alias.name, root))
        elif isinstance(node, ast.ImportFrom):
            source = _absolute(node, module, is_package=path.name == "__init__.py")
            names = [f"{source}.{alias.name}" for alias in node.names] if _inside(source, root) else []
            yield from (name if name in modules else source for name in names)


def _absolute(node: ast.ImportFrom, module: str, *, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parents = module.split(".")[: len(module.split(".")) - node.level + is_package]
    return ".".join([*parents, *([node.module] if node.module else [])])


def _inside(name: str, root: str) -> bool:
    return name == root or name.startswith(f"{root}.")


def _fault(part: str, other: str, ring_of: Mapping[str, int], families: int) -> str | None:
    if not other:
        return "the package root is for users; name the submodule"
    if other == part or other not in ring_of:
        return None
    if ring_of[other] > ring_of[part]:
        return f"ring {ring_of[part]} may not look up to ring {ring_of[other]}"
    if ring_of[other] == ring_of[part] == families:
        return "families of one ring do not import one another"
    return None


def _cycles(graph: Mapping[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return ["a cycle: " + " imports ".join(reversed(error.args[1]))]
    return []
