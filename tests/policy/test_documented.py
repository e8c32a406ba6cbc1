import ast
import re
from collections.abc import Iterator

import pytest

from .docstrings import entries, fields, missing, missing_in_family, missing_source
from .layering import part_of
from .source import (
    DOCS,
    PACKAGE,
    Function,
    blocks,
    exported,
    module_name,
    parse,
    public_definitions,
    python_files,
    table_rows,
)

FAMILIES = (
    *("budgets", "counts", "criteria", "growth", "masks", "patterns", "penalties", "recipes", "sampling", "schedules"),
    *("solvers", "topology"),
)
SOURCED = ("criteria", "growth", "penalties", "recipes", "solvers")
# What terminals and pages may show that ASCII has not.
SIGNS = {"cli": "\u00b1\u00d7", "report": "\u00b1\u00d7"}

TREES = {module_name(path): parse(path) for path in python_files()}
INITS = {module_name(path): parse(path) for path in python_files() if path.name == "__init__.py"}


def family_functions(families: tuple[str, ...]) -> Iterator[tuple[str, Function]]:
    """Yield the public functions of families: of a folder those that it exports, of a file all."""
    for module, tree in TREES.items():
        part = part_of(module)
        public = exported(INITS[f"gossamer.{part}"]) if f"gossamer.{part}" in INITS else None
        for name, node in public_definitions(tree):
            if (
                part in families
                and isinstance(node, Function)
                and "." not in name
                and (public is None or name in public)
            ):
                yield f"{module}.{name}", node


def members(module: str) -> list[str]:
    """Return what users can name in a module: its exports, or its public functions and classes."""
    tree = TREES[module]
    return exported(tree) or [name for name, _ in public_definitions(tree) if "." not in name]


def public_bindings(tree: ast.Module) -> Iterator[str]:
    """Yield what an __init__.py takes from the package or makes itself, but for private names."""
    names: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gossamer"):
            names += [alias.asname or alias.name for alias in node.names]
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
    names += [name for name, _ in public_definitions(tree) if "." not in name]
    yield from (name for name in names if not name.startswith("_"))


def listed(listing: str) -> Iterator[str]:
    """Yield the files of a tree whose folders are followed by their files, two spaces further in."""
    folder = ""
    for line in listing.splitlines()[1:]:
        name = line.split()[0]
        if name.endswith("/"):
            folder = name
        else:
            yield f"{folder}{name}" if line.startswith("    ") else name


def test_every_file_says_what_it_is_for() -> None:
    assert [module for module, tree in TREES.items() if not ast.get_docstring(tree)] == []


def test_every_public_name_has_a_docstring_whose_args_are_its_arguments() -> None:
    faults = [
        f"{module}.{name} {fault}"
        for module, tree in TREES.items()
        for name, node in public_definitions(tree)
        for fault in missing(node)
    ]

    assert faults == []


def test_records_describe_all_their_fields() -> None:
    faults = [
        f"{module}.{name}: {fields(node)}"
        for module, tree in TREES.items()
        for name, node in public_definitions(tree)
        if isinstance(node, ast.ClassDef)
        and (told := entries(ast.get_docstring(node) or "", "Attributes")) is not None
        and not set(fields(node)) <= {*told, *(entries(ast.get_docstring(node) or "", "Args") or [])}
    ]

    assert faults == []


def test_functions_of_families_have_the_sections_they_need() -> None:
    faults = [f"{name} {fault}" for name, node in family_functions(FAMILIES) for fault in missing_in_family(node)]

    assert faults == []


def test_criteria_growth_rules_and_recipes_name_their_source() -> None:
    functions = dict(family_functions(SOURCED))

    assert len(functions) >= 9
    assert [f"{name} {fault}" for name, node in functions.items() for fault in missing_source(node)] == []


@pytest.mark.parametrize("module", sorted(INITS.keys() - {"gossamer.cli"}))
def test_exports_are_sorted_complete_and_there(module: str) -> None:
    names = exported(INITS[module]) or []

    assert set(names) == set(public_bindings(INITS[module]))
    assert names == sorted(set(names), key=lambda name: (not name.isupper(), name[0].islower(), name))


def test_the_tour_names_all_that_is_public_and_nothing_else() -> None:
    rows = table_rows((DOCS / "tour.md").read_text(encoding="utf-8"), "## What there is")
    told = {f"{where.strip('`')}.{name}" for where, names in rows for name in re.findall(r"`(\w+)`", names)}
    modules = [module for module in TREES if module.count(".") < 2 and module != "gossamer.cli"]
    public = {f"{module}.{name}" for module in modules for name in members(module)}

    assert sorted(public ^ {re.sub(r"^gs\b", "gossamer", name) for name in told}) == []


def test_the_tour_lists_every_file_and_no_other() -> None:
    text = (DOCS / "tour.md").read_text(encoding="utf-8")
    listing = next(block.text for block in blocks(text) if block.text.startswith("src/gossamer/"))
    files = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.*") if "__" not in path.parent.name}

    assert sorted(listed(listing)) == sorted(file for file in files if not file.endswith("/__init__.py"))


def test_sources_are_ascii_but_for_the_signs_of_terminal_and_page() -> None:
    faults = [
        f"{module_name(path)}: {sign!a}"
        for path in python_files()
        for sign in sorted(set(path.read_text(encoding="utf-8")))
        if not sign.isascii() and sign not in SIGNS.get(part_of(module_name(path)), "")
    ]

    assert faults == []


GOOD = '''
def f(a: Tensor, *, b: int) -> Tensor:
    """Do it.

    Args:
        a: shape [*].
        b: a count.

    Returns:
        Shape [*].

    Raises:
        ValueError: b is negative.

    Source:
        Somebody. Some paper. 2020.
    """
    if b < 0:
        raise ValueError
    return a
'''


def faults_of(code: str) -> list[str]:
    """Return all that the checks find in a function."""
    function = ast.parse(code).body[0]
    assert isinstance(function, Function)
    return missing(function) + missing_in_family(function) + missing_source(function)


def test_a_function_with_all_sections_passes() -> None:
    assert faults_of(GOOD) == []


@pytest.mark.parametrize(
    ("whole", "broken", "fault"),
    [
        ("        b: a count.\n", "", "Args describes ['a'], it has ['a', 'b']"),
        ("        b: a count.", "        c: a count.", "Args describes ['a', 'c'], it has ['a', 'b']"),
        ("    Args:\n        a: shape [*].\n        b: a count.\n", "", "has no Args"),
        ("    Returns:\n        Shape [*].\n", "", "has no Returns"),
        ("    Raises:\n        ValueError: b is negative.\n", "", "has no Raises"),
        ("2020", "", "has no Source with a year"),
    ],
)
def test_a_section_that_lacks_or_does_not_fit_is_found(whole: str, broken: str, fault: str) -> None:
    assert whole in GOOD
    assert faults_of(GOOD.replace(whole, broken)) == [fault]
