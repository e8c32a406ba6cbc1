import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gossamer.report import page as page_module
from gossamer.report import write_report

from .fake import COMMAND, end, evaluation, run_events, start, write_comparison, write_run

NASTY = "<img src=x onerror=alert(1)> & \"quoted\" 'too' </script> %{x}"


class Page(HTMLParser):
    """The visible text of a page, what it loads, and its scripts."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.scripts: list[str] = []
        self._inside = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._inside = tag
        if tag == "script":
            self.scripts.append("")
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.text += data.replace("\u00a0", " ")


def written(folder: Path) -> Page:
    return Page(write_report(folder).read_text(encoding="utf-8"))


def test_a_comparison_makes_a_whole_page(tmp_path: Path) -> None:
    page = written(write_comparison(tmp_path))

    assert page.tags.count("h1") == 1
    assert page.tags.count("figure") == page.tags.count("figcaption") == 6
    for words in ("RigL", "Static sparse", "truly sparse, 3 seeds", "not faster than dense", "95.0 %", "33.2 MB"):
        assert words in page.text
    assert COMMAND in page.text
    assert "update_every = 100" in page.text
    assert "mlp:1000x3" in page.text


def test_a_single_run_makes_a_page(tmp_path: Path) -> None:
    write_run(tmp_path, run_events("set", 0))

    page = written(tmp_path)

    assert "There is no dense run here to compare with." in page.text
    assert "The folder names no command that repeats this run." in page.text
    assert page.tags.count("figure") == 5


def test_a_run_without_an_end_says_so(tmp_path: Path) -> None:
    write_run(tmp_path, [start("set"), evaluation(0, 0.1), evaluation(250, 0.6)], tail='{"event": "upd')

    page = written(tmp_path)

    assert "did not finish; it got to step 250 (killed or still running: its file has no end)" in page.text
    assert "250 of 5,000" in page.text


def test_a_failed_run_shows_its_note(tmp_path: Path) -> None:
    write_run(tmp_path, [start("set"), end(0.5, 3.0, 0.05, status="failed", note="the disk is full")])

    page = written(tmp_path)

    assert "(failed)" in page.text
    assert "the disk is full" in page.text


def test_runs_under_different_circumstances_are_pointed_out(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "dense-seed0", [start("dense"), end(0.9, 9.0, 1.0)])
    write_run(tmp_path / "runs" / "set-seed0", [{**start("set"), "threads": 8}, end(0.9, 3.0, 0.05)])

    assert "The runs differ in threads: 2 | 8." in written(tmp_path).text


def test_text_from_files_stays_text(tmp_path: Path) -> None:
    events = [*run_events("set", 0, label=NASTY)[:-1], end(0.9, 3.0, 0.05, note=NASTY)]
    write_run(tmp_path, events)
    (tmp_path / "config.toml").write_text(f"command = {json.dumps(NASTY)}\n")

    page = written(tmp_path)

    assert "img" not in page.tags
    assert page.text.count(NASTY) >= 4
    assert len(page.scripts) == 4


def test_nothing_is_loaded_from_anywhere(tmp_path: Path) -> None:
    page = written(write_comparison(tmp_path, ["dense", "set"], num_seeds=1))

    assert page.loaded
    assert all(address.startswith("#") for address in page.loaded)
    assert "link" not in page.tags
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Content-Security-Policy\" content=\"default-src 'none'" in source
    assert sum("plotly.js v" in script for script in page.scripts) == 1
    assert not re.search(r"@import|url\(", (Path(page_module.__file__).parent / "page.css").read_text())


def test_the_same_folder_gives_the_same_page(tmp_path: Path) -> None:
    write_comparison(tmp_path, ["dense", "set"], num_seeds=2)

    assert write_report(tmp_path).read_bytes() == write_report(tmp_path).read_bytes()


def test_a_failed_write_leaves_the_old_page_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, run_events("set", 0))
    before = write_report(tmp_path).read_bytes()

    def fail(source: Path, target: Path) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space left"):
        write_report(tmp_path)

    assert (tmp_path / "report.html").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.jsonl", "report.html"}


def test_a_broken_configuration_is_named(tmp_path: Path) -> None:
    write_run(tmp_path, run_events("set", 0))
    (tmp_path / "config.toml").write_text("command = gossamer\n")

    with pytest.raises(ValueError, match=r"config\.toml is not TOML"):
        write_report(tmp_path)


@pytest.mark.parametrize("package", ["jinja2", "plotly"])
def test_a_missing_extra_is_told_with_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    write_run(tmp_path, run_events("set", 0))
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(ImportError, match=r'needs .*; run: pip install "gossamer\[report\]"'):
        write_report(tmp_path)
