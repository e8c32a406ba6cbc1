"""Write the page: one HTML file that needs nothing but itself."""

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from gossamer.report.headline import findings
from gossamer.report.read import read_runs
from gossamer.report.records import Run
from gossamer.report.summary import summarise
from gossamer.report.table import COLUMNS, circumstances, method_rows, run_rows, warnings

if TYPE_CHECKING:  # plotly is an extra
    from gossamer.report.figures import Chart


def write_report(folder: Path) -> Path:
    """Write `report.html` into a run folder: one file that opens offline and loads nothing.

    Args:
        folder: a run folder with config.toml and metrics.jsonl, or runs/*/metrics.jsonl.

    Returns:
        The path of the page. It replaces the old one only when it is whole.

    Raises:
        FileNotFoundError: the folder holds no metrics.jsonl.
        ImportError: plotly or jinja2 is not installed.
        ValueError: a metrics.jsonl is broken before its last line, or config.toml is no TOML.
    """
    page = _render(read_runs(folder), *_read_config(folder / "config.toml"))
    path = folder / "report.html"
    aside = folder / "report.html.part"
    try:
        aside.write_text(page, encoding="utf-8")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    return path


def _read_config(path: Path) -> tuple[str, str]:
    """Return the text of the configuration and the command in it, both empty where there is none."""
    if not path.is_file():
        return "", ""
    text = path.read_text(encoding="utf-8")
    try:
        command = tomllib.loads(text).get("command")
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not TOML: {error}; repair or delete it") from error
    return text, command if isinstance(command, str) else ""


def _render(runs: list[Run], config: str, command: str) -> str:
    try:
        import jinja2
        from plotly.offline import get_plotlyjs
    except ModuleNotFoundError as error:
        raise ImportError(
            f'the report needs {error.name}, which is not installed; run: pip install "gossamer[report]"'
        ) from error
    from gossamer.report.charts import charts
    from gossamer.report.figures import DARK_COLOURS

    summaries = summarise(runs)
    made = charts(summaries)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    page: str = environment.from_string(_part("page.html.j2")).render(
        title=", ".join(item.label for item in summaries),
        subject=", ".join(value for title, values in circumstances(runs)[:2] for value in values),
        findings=findings(summaries),
        warnings=warnings(runs),
        columns=COLUMNS,
        methods=method_rows(summaries),
        runs=run_rows(runs),
        charts=made,
        circumstances=circumstances(runs),
        config=config,
        command=command,
        style=_part("page.css"),
        error_script=_part("errors.js"),
        page_script=_part("page.js"),
        plotly=get_plotlyjs(),
        data=_script_data(made, DARK_COLOURS),
    )
    return page


def _part(name: str) -> str:
    return resources.files("gossamer.report").joinpath(name).read_text(encoding="utf-8")


def _script_data(charts: Sequence["Chart"], dark: Mapping[str, str]) -> str:
    """Return the figures as JSON that cannot end the script element it stands in."""
    views = {chart.key: [{"caption": view.caption, "figure": view.figure} for view in chart.views] for chart in charts}
    return json.dumps({"dark": dict(dark), "charts": views}, allow_nan=False).replace("<", "\\u003c")
