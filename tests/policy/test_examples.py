import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .source import PACKAGE, ROOT, exported, parse, public_definitions

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
every_example = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)


def public_names(module: str) -> set[str]:
    """Return what users may import from a module of the package, its public submodules among it."""
    place = PACKAGE.joinpath(*module.split(".")[1:])
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    tree = parse(file)
    names = exported(tree) or [name for name, _ in public_definitions(tree)]
    return {*names, *(child.stem for child in place.glob("[!_]*"))}


def names_used(tree: ast.Module) -> set[tuple[str, str]]:
    """Return module and name of each thing that an example takes from the package."""
    used = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gossamer"):
            used |= {(node.module or "", alias.name) for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "gs":
            used.add(("gossamer", node.attr))
    return used


def run(path: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script as a user does; one thread, as threads of several tests at once would wait for one another."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", str(path)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture(scope="module", autouse=True)
def _compiled_kernels(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Fill the cache of compiled kernels, once a machine: that is no example's fault."""
    script = tmp_path_factory.mktemp("warm") / "warm.py"
    script.write_text(
        "import torch, gossamer as gs\n"
        "layer = gs.nn.SparseLinear(30, 20, sparsity=0.5, generator=torch.Generator())\n"
        "for batch in (1, 8, 16, 24, 32, 64, 128, 360):\n"
        "    layer(torch.ones(batch, 30, requires_grad=True)).sum().backward()\n"
    )
    subprocess.run([sys.executable, str(script)], check=True, timeout=300)


@every_example
def test_an_example_runs_in_seconds_and_prints_something(path: Path, tmp_path: Path) -> None:
    result = run(path, tmp_path)

    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert result.stdout.strip()
    assert list(tmp_path.iterdir()) == []


@every_example
def test_an_example_is_short_says_what_it_shows_and_uses_public_names(path: Path) -> None:
    tree = parse(path)

    assert "Shows" in (ast.get_docstring(tree) or "")
    assert len(path.read_text(encoding="utf-8").splitlines()) < 70
    assert [(module, name) for module, name in names_used(tree) if name not in public_names(module)] == []


def test_there_is_an_example_for_each_workflow() -> None:
    assert [path.stem for path in EXAMPLES] == [
        "bat_brain",
        "compare_from_python",
        "new_criterion",
        "own_recipe",
        "prune_while_training",
        "resume",
        "sparsify_your_model",
        "train_sparse",
    ]
