"""The charts of cost: where the time went, and what each topology update changed."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from gossamer.report.figures import LEGEND, PART_COLOURS, Chart, Style, View, axis, figure, plain
from gossamer.report.summary import Summary, spread, updates
from gossamer.report.words import duration, number, percent

_PARTS = ("data", "forward", "backward", "optimizer", "topology")
_REST = "other"


def where_time_went(summaries: Sequence[Summary], styles: Mapping[str, Style]) -> Chart | None:
    """Chart the seconds of each method, part by part.

    Args:
        summaries: all methods of the page.
        styles: how each looks.

    Returns:
        The chart; None where no run recorded its parts.
    """
    spent = {item.method: found for item in reversed(summaries) if (found := time_parts(item))}
    if not spent:
        return None
    names = [styles[method].name for method in spent]
    parts = _ordered({part for seconds in spent.values() for part in seconds})
    traces = [
        _stack(part, [seconds.get(part, 0.0) for seconds in spent.values()], names, colour)
        for part, colour in zip(parts, itertools.cycle(PART_COLOURS), strict=False)
    ]
    layout = {
        "barmode": "stack",
        "xaxis": axis("seconds, mean over seeds", {"tickformat": ","}),
        "yaxis": axis("", {"type": "category", "ticksuffix": "  "}),
        "legend": {**LEGEND, "traceorder": "normal"},
    }
    caption = f"Each bar is the training time of one method, cut into its parts. {_largest(spent, styles)}"
    made = figure(traces, layout, height=170 + 42 * len(names))
    return Chart(key="time", title="Where the time went", views=[View(label="", caption=caption, figure=made)])


def time_parts(summary: Summary) -> dict[str, float]:
    """Return the mean seconds of each part, and as `other` what the parts leave of the training time."""
    records = [run.end for run in summary.runs if run.end and run.end.where]
    parts: dict[str, float] = {}
    for part in {part for record in records for part in record.where}:
        mean = spread(record.where.get(part, 0.0) for record in records)
        parts[part] = mean.mean if mean else 0.0
    if parts and summary.seconds:
        rest = summary.seconds.mean - sum(parts.values())
        if rest > 0.005 * summary.seconds.mean:
            parts[_REST] = parts.get(_REST, 0.0) + rest
    return parts


def topology_updates(summaries: Sequence[Summary], styles: Mapping[str, Style]) -> Chart | None:
    """Chart how many weights each update dropped and grew.

    Args:
        summaries: all methods of the page.
        styles: how each looks.

    Returns:
        The chart; None where no topology changed.
    """
    changes = {item.method: found for item in summaries if (found := updates(item.runs))}
    if not changes:
        return None
    traces = [trace for method, found in changes.items() for trace in _changes(found, styles[method])]
    layout = {
        "xaxis": axis("steps (optimizer updates)", {"rangemode": "tozero", "tickformat": ","}),
        "yaxis": axis("weights grown (up), dropped (down)", {"tickformat": ",", "zeroline": True}),
    }
    seen = [
        f"{styles[method].label} changed its topology {len(found)} times "
        f"and moved {number(sum(grown for _, _, grown in found))} weights in all"
        for method, found in changes.items()
    ]
    how = "Above the zero line the weights that an update grew, below it those it dropped."
    caption = f"{how} {'; '.join(seen)}."
    views = [View(label="", caption=caption, figure=figure(traces, layout))]
    return Chart(key="updates", title="Topology updates", views=views)


def _stack(part: str, seconds: Sequence[float], names: Sequence[str], colour: str) -> Any:
    return go.Bar(
        y=list(names),
        x=list(seconds),
        name=plain(part),
        orientation="h",
        marker={"color": colour},
        hovertemplate="%{x:,.2f} s<extra>%{y}: %{fullData.name}</extra>",
    )


def _changes(found: Sequence[tuple[int, float, float]], style: Style) -> list[Any]:
    """Return two lines: what grew upwards, what was dropped downwards."""
    steps = [step for step, _, _ in found]
    sides = [
        ("grown", [grown for _, _, grown in found], 1),
        ("dropped", [dropped for _, dropped, _ in found], -1),
    ]
    return [
        go.Scatter(
            x=steps,
            y=[sign * count for count in counts],
            customdata=counts,
            name=style.name,
            legendgroup=style.method,
            showlegend=sign > 0,
            mode="lines+markers" if len(steps) <= 40 else "lines",
            line={"color": style.colour, "dash": style.dash, "width": 2},
            marker={"symbol": style.symbol, "size": 6},
            hovertemplate=f"%{{customdata:,.0f}} {word} at step %{{x:,}}<extra>%{{fullData.name}}</extra>",
        )
        for word, counts, sign in sides
    ]


def _ordered(parts: set[str]) -> list[str]:
    known = [part for part in _PARTS if part in parts]
    return [*known, *sorted(parts - {*_PARTS, _REST}), *(part for part in (_REST,) if part in parts)]


def _largest(spent: Mapping[str, Mapping[str, float]], styles: Mapping[str, Style]) -> str:
    sentences = []
    for method in reversed(list(spent)):
        parts = spent[method]
        total = sum(parts.values())
        part = max(parts, key=lambda name: parts[name])
        if total > 0:
            share = percent(parts[part] / total, 0)
            sentences.append(f"{styles[method].label}: {part} is {share} of {duration(total)}")
    return "The largest part of each: " + "; ".join(sentences) + "." if sentences else ""
