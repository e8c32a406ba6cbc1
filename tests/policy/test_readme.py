import re
import sys
from pathlib import Path

import pytest

from gossamer.training import METHODS

from .documents import broken_links, check_command, commands, run_python
from .source import DOCS, DOCUMENTS, ROOT, blocks, table_rows

README = ROOT / "README.md"
every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)


@every_document
def test_every_python_block_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path)])

    num_blocks = run_python(path)

    # A README that says anything shows how to use it.
    assert num_blocks or path not in (README, DOCS / "adding.md") or not path.read_text(encoding="utf-8").strip()


@every_document
def test_every_command_line_is_one_that_the_program_takes(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)

    for words in commands(text):
        if words[0] == "gossamer":
            check_command(words)
        elif words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= set(targets), words
        elif words[0].startswith("python") and words[1].endswith(".py"):
            assert (ROOT / words[1]).is_file(), words
    assert path != README or not text.strip() or any(words[0] == "gossamer" for words in commands(text))


@every_document
def test_every_local_link_leads_somewhere(path: Path) -> None:
    assert broken_links(path) == []


def test_the_readme_has_the_row_of_each_method() -> None:
    rows = table_rows(README.read_text(encoding="utf-8"), "## On the command line")

    assert rows == [[f"`{method.name}`", method.summary, method.paper] for method in METHODS]


@every_document
def test_every_block_says_its_language(path: Path) -> None:
    assert [block.line for block in blocks(path.read_text(encoding="utf-8")) if not block.language] == []


@pytest.mark.parametrize(
    "line",
    [
        "gossamer tarin",
        "gossamer train --sparsty 0.9",
        "gossamer train --sparsity much",
        "gossamer train --method ste",
        "gossamer compare --methods dense,ste",
        "gossamer inspect",
        "gossamer --sparsity 0.9",
    ],
)
def test_a_command_line_with_a_mistake_is_found(line: str) -> None:
    (words,) = commands(f"```console\n$ {line}\nsome output\n```\n")

    with pytest.raises(Exception, match=r"(?i)no such|valid number|unknown|missing"):
        check_command(words)


def test_command_lines_are_found_in_shell_blocks_whatever_their_form() -> None:
    script = "```sh\nmake demo && gossamer train \\\n  --seed 1  # a comment\n```\n"
    console = "```console\n$ gossamer methods\nset\n```\n"

    assert list(commands(script + console)) == [
        ["make", "demo"],
        ["gossamer", "train", "--seed", "1"],
        ["gossamer", "methods"],
    ]


def test_a_python_block_that_fails_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("# Page\n\n```python\nx = 1\n```\n\n```python\nassert x == 1\nassert x == 2\n```\n")

    with pytest.raises(AssertionError) as failure:
        run_python(path)

    assert failure.traceback[-1].lineno + 1 == 9


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("# One page\n\n[a](page.md#one-page) [b](#one-page) [c](https://x.org) [d](no.md) [e](#two)\n")

    assert broken_links(path) == ["no.md", "#two"]
