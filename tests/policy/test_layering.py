from pathlib import Path

import pytest

from .layering import breaches, part_of
from .source import DOCS, PACKAGE, module_name, python_files, table_rows

# The one table of the rings. A file imports from lower rings, or from its own ring where that makes no cycle;
# the families of ring 1 never import one another.
RINGS = (
    ("atomic", "counts", "elementwise", "lookup", "machine", "masks", "ranking", "sampling", "schedules", "topology"),
    ("budgets", "criteria", "distillation", "growth", "kernels", "patterns", "penalties"),
    ("controller", "files", "formats", "neurons", "nn", "reparametrizations", "solvers", "statistics", "weights"),
    ("acceleration", "pruning", "rewinding", "sparsifier", "updates"),
    ("data", "models", "recipes", "report", "testing", "training"),
    ("cli",),
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small package that keeps the rules of TOY."""
    package = tmp_path / "toy"
    for name, text in {
        "__init__.py": "from toy import low\nfrom toy.top import run\n",
        "low.py": "import math\n",
        "left/__init__.py": "from toy.left.one import f\n",
        "left/one.py": "from toy.left import two\nfrom ..low import g\n",
        "left/two.py": "import toy.low as low\n",
        "right.py": "from toy import low\n",
        "top.py": "from toy.left import f\nfrom toy import right\n",
    }.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    return package


TOY = (("low",), ("left", "right"), ("top",))


def test_every_file_keeps_to_its_ring() -> None:
    assert breaches(PACKAGE, RINGS) == []


def test_the_table_has_a_row_for_what_there_is_and_for_nothing_else() -> None:
    parts = {part_of(module_name(path)) for path in python_files()} - {""}

    assert sorted(part for ring in RINGS for part in ring) == sorted(parts)


def test_the_tour_shows_the_same_table() -> None:
    rows = table_rows((DOCS / "tour.md").read_text(), "## The rings")

    assert [(row[0], row[1]) for row in rows] == [
        (str(number), ", ".join(f"`{part}`" for part in ring)) for number, ring in enumerate(RINGS)
    ]


def test_a_tree_that_keeps_the_rules_has_no_breach(tree: Path) -> None:
    assert breaches(tree, TOY) == []


@pytest.mark.parametrize(
    ("file", "line", "breach"),
    [
        ("low.py", "from toy.left import f", "toy.low imports toy.left: ring 0 may not look up to ring 1"),
        ("low.py", "def f():\n    from toy import top", "toy.low imports toy.top: ring 0 may not look up to ring 2"),
        ("right.py", "from toy.left.two import f", "toy.right imports toy.left.two: families of one ring"),
        ("left/two.py", "from .. import right", "toy.left.two imports toy.right: families of one ring"),
        ("top.py", "import toy", "toy.top imports toy: the package root"),
        ("top.py", "import toy.low", "toy.top imports toy: the package root"),
        ("top.py", "from toy import run", "toy.top imports toy: the package root"),
        ("left/two.py", "from toy.left import one", "a cycle: toy.left."),
        ("left/two.py", "from . import f", "a cycle: toy.left"),
        ("new.py", "import math", "toy.new has no ring"),
    ],
    ids=lambda value: value.replace("\n", " ") if isinstance(value, str) else None,
)
def test_a_planted_breach_is_found(tree: Path, file: str, line: str, breach: str) -> None:
    with (tree / file).open("a") as source:
        source.write(f"{line}\n")

    assert [found for found in breaches(tree, TOY) if found.startswith(breach)]
