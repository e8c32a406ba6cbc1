"""The page in a real browser: the charts are drawn, and no script complains."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gossamer.report import write_report

from .fake import evaluation, run_events, start, write_comparison, write_run

NASTY = "<b>a</b> & \"b\" 'c' </script> %{x}"
ERROR_BOX = '<div class="error-box"'

# Every button and every entry of every list, then the print view and back.
USE_EVERYTHING = """
<script>
window.addEventListener("load", async () => {
  document.querySelectorAll("button[data-view]").forEach((button) => button.click());
  for (const select of document.querySelectorAll("select[data-chart]")) {
    for (const option of select.options) {
      select.value = option.value;
      select.dispatchEvent(new Event("change"));
    }
  }
  dispatchEvent(new Event("beforeprint"));
  dispatchEvent(new Event("afterprint"));
  document.getElementById("copy")?.click();
});
</script>
"""


def browse(path: Path, profile: Path, *flags: str) -> tuple[str, list[str]]:
    """Return the document after its scripts ran, and what they said on the console."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium: install Debian's chromium package to run the page in a browser")
    command = [
        chromium,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        f"--user-data-dir={profile}",
        "--enable-logging=stderr",
        "--virtual-time-budget=4000",
        *flags,
        "--dump-dom",
        path.as_uri(),
    ]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return shown.stdout, [line for line in shown.stderr.splitlines() if "CONSOLE" in line]


def drawn(document: str) -> int:
    """Return how many figures Plotly has drawn; each has at least one layer of SVG."""
    figures = len(re.findall(r'<div class="plot js-plotly-plot"', document))
    assert len(re.findall(r'<svg class="main-svg"', document)) >= figures
    return figures


def test_every_chart_and_every_view_is_drawn(tmp_path: Path) -> None:
    path = write_report(write_comparison(tmp_path / "run"))
    path.write_text(path.read_text(encoding="utf-8") + USE_EVERYTHING, encoding="utf-8")

    document, console = browse(path, tmp_path / "profile")

    assert console == []
    assert ERROR_BOX not in document
    assert drawn(document) == 6
    assert "The same accuracies at the time they took." in document  # the caption of the last view


def test_special_characters_and_a_dark_page_are_no_trouble(tmp_path: Path) -> None:
    write_run(tmp_path / "run", run_events("set", 0, label=NASTY))
    path = write_report(tmp_path / "run")

    document, console = browse(path, tmp_path / "profile", "--blink-settings=preferredColorScheme=0")

    assert console == []
    assert ERROR_BOX not in document
    assert drawn(document) == 5
    plot = document[document.index('id="plot-accuracy"') :]
    assert "&lt;b&gt;a&lt;/b&gt; &amp; " in plot[: plot.index("</figure>")]
    assert "rgb(63, 151, 224)" in plot[: plot.index("</figure>")]  # the first colour of a dark page


def test_an_error_in_the_page_is_shown(tmp_path: Path) -> None:
    write_run(tmp_path / "run", [start("set"), evaluation(0, 0.1), evaluation(250, 0.6)])
    path = write_report(tmp_path / "run")
    path.write_text(path.read_text(encoding="utf-8") + "<script>missing();</script>", encoding="utf-8")

    document, console = browse(path, tmp_path / "profile")

    assert "missing is not defined" in "".join(console)
    assert ERROR_BOX in document
