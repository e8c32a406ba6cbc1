import sys
from pathlib import Path

import pytest

from gossamer import report
from gossamer.cli import run


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test starts in an empty folder, as a new user does; models of its own are found there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("GOSSAMER_TRACEBACK", raising=False)
    monkeypatch.delenv("GOSSAMER_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


@pytest.fixture(autouse=True)
def short_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page takes longer than the training of a tiny network; the tests of the report look at it."""

    def write(folder: Path) -> Path:
        path = folder / "report.html"
        path.write_text("a page")
        return path

    monkeypatch.setattr(run, "write_report", write)


@pytest.fixture
def whole_page(short_page: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "write_report", report.write_report)
