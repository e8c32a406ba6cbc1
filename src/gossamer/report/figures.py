"""What all charts share: their records, one colour a method, one calm layout."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import plotly.graph_objects as go

from gossamer.report.summary import Summary

Settings = Mapping[str, Any]

DARK_COLOURS: Mapping[str, str] = {
    "#4d5660": "#8d97a1",
    "#0072b2": "#3f97e0",
    "#d55e00": "#ff8a4a",
    "#009e73": "#2fd0a2",
    "#cc79a7": "#f2aad6",
    "#7d5a00": "#ffe58f",
    "#2b1d78": "#b9a8ff",
    "#a01818": "#c9605e",
    "#24476b": "#3f6ea1",
    "#4a7fb5": "#6f9fd0",
    "#8db3d9": "#a9c8e6",
    "#c7873e": "#d9a05b",
    "#ead6b8": "#f0e2cc",
    "#9aa3ab": "#7c858d",
    "#1c2126": "#e6e9ec",
    "#e3e6e9": "#343b42",
    "#ffffff": "#16191d",
}
"""Each colour of a figure and what it turns into where the reader prefers a dark page."""

DENSE_COLOUR, *_OTHERS, INK, GRID, PAPER = DARK_COLOURS
METHOD_COLOURS, PART_COLOURS = _OTHERS[:7], _OTHERS[7:]
LEGEND = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon", "triangle-down")


class Style(NamedTuple):
    """How one method looks in every chart; dash and symbol tell it apart without colour."""

    method: str
    label: str
    name: str  # the label as Plotly shows it: escaped, not too long
    colour: str
    dash: str
    symbol: str


@dataclass(frozen=True, kw_only=True)
class View:
    """One figure of a chart. A chart with several views has buttons, or a list where groups are named."""

    label: str
    caption: str
    figure: Mapping[str, Any]
    group: str = ""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One section of the page with a figure."""

    key: str
    title: str
    views: Sequence[View]


def styles(summaries: Sequence[Summary]) -> dict[str, Style]:
    """Give each method its colour, dash and symbol.

    Args:
        summaries: the methods in the order of the page.

    Returns:
        The style of each method by its name; dense is grey and dashed.
    """
    found: dict[str, Style] = {}
    for summary in summaries:
        if summary.is_dense:
            found[summary.method] = _style(summary, DENSE_COLOUR, "dash", "diamond-open")
    for place, summary in enumerate(item for item in summaries if not item.is_dense):
        turn, colour = divmod(place, len(METHOD_COLOURS))
        dash, symbol = _DASHES[turn % len(_DASHES)], _SYMBOLS[place % len(_SYMBOLS)]
        found[summary.method] = _style(summary, METHOD_COLOURS[colour], dash, symbol)
    return found


def _style(summary: Summary, colour: str, dash: str, symbol: str) -> Style:
    name = plain(summary.label)
    return Style(summary.method, summary.label, name, colour, dash, symbol)


def plain(text: str) -> str:
    """Return text that Plotly shows as it is: it takes tags for markup and a long name for a wide legend."""
    short = text if len(text) <= 40 else text[:39] + "\u2026"
    return html.escape(short, quote=False)


def faint(colour: str) -> str:
    """Return the colour with a quarter of its strength."""
    return f"{colour}40"


def axis(title: str, settings: Settings | None = None) -> dict[str, Any]:
    """Return an axis with its title; `settings` are Plotly's own and come on top."""
    return {
        "title": {"text": title, "standoff": 10},
        "gridcolor": GRID,
        "linecolor": GRID,
        "zerolinecolor": GRID,
        "automargin": True,
        **(settings or {}),
    }


def figure(traces: Sequence[Any], layout: Settings, *, height: int = 400) -> dict[str, Any]:
    """Return a figure as plain data; Plotly checks every name and value in it.

    Args:
        traces: Plotly traces.
        layout: Plotly's own layout settings; they come on top of the calm ones.
        height: in pixels; the width follows the page.

    Returns:
        A dict with `data` and `layout`.
    """
    calm = {
        "height": height,
        "margin": {"l": 12, "r": 12, "t": 16, "b": 12},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": INK, "size": 13, "family": "system-ui, sans-serif"},
        "hoverlabel": {"bgcolor": PAPER, "bordercolor": GRID, "font": {"color": INK}, "align": "left"},
        "hovermode": "closest",
        "legend": LEGEND,
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": INK, "activecolor": METHOD_COLOURS[0]},
        "template": go.layout.Template(),
    }
    made: dict[str, Any] = go.Figure(data=list(traces), layout={**calm, **layout}).to_plotly_json()
    return made
