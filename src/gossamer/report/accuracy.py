"""The charts of accuracy: over steps and seconds, and against what a network keeps."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import plotly.graph_objects as go

from gossamer.report.figures import Chart, Style, View, axis, faint, figure
from gossamer.report.summary import Point, Spread, Summary, curve
from gossamer.report.words import duration, number, percent

Over = Literal["step", "seconds"]
Curves = Mapping[str, Sequence[Point]]

_AXIS_TITLES = {"step": "steps (optimizer updates)", "seconds": "training time in seconds, without evaluations"}


def accuracy_over_time(summaries: Sequence[Summary], styles: Mapping[str, Style]) -> Chart | None:
    """Chart the test accuracy of each method over steps and over seconds, with a band over seeds.

    Args:
        summaries: all methods of the page.
        styles: how each looks.

    Returns:
        The chart; None without an evaluation.
    """
    curves = {item.method: points for item in summaries if (points := curve(item.runs))}
    if not curves:
        return None
    seeds = max(len(item.runs) for item in summaries)
    band = ", its band one deviation over seeds" if seeds > 1 else ""
    how = f"Each line is the accuracy of one method on unseen data{band}; click a name to hide or show it."
    leader = _leader(curves, styles)
    close = f"The same lines without the climb at the start. {leader}"
    views = [
        View(label="Steps", caption=f"{how} {leader}", figure=_lines(curves, styles, "step", 0.0)),
        View(label="Close-up", caption=close, figure=_lines(curves, styles, "step", _plateau(curves))),
    ]
    if any(points[-1].seconds for points in curves.values()):
        caption = f"The same accuracies at the time they took. {_durations(curves, styles)}"
        views.append(View(label="Seconds", caption=caption, figure=_lines(curves, styles, "seconds", 0.0)))
    return Chart(key="accuracy", title="Accuracy over training", views=views)


def accuracy_against_weights(summaries: Sequence[Summary], styles: Mapping[str, Style]) -> Chart | None:
    """Chart the final accuracy of each method against the weights it keeps.

    Args:
        summaries: all methods of the page.
        styles: how each looks.

    Returns:
        The chart; None with fewer than two methods to compare.
    """
    dots = [
        (styles[item.method], kept, score)
        for item in summaries
        if (kept := item.num_active) is not None and (score := item.final_accuracy) is not None
    ]
    if len(dots) < 2:
        return None
    ticks = {"type": "log", "dtick": "D2", "tickformat": "~s"}
    layout = {
        "xaxis": axis("active weights (logarithmic axis)", ticks),
        "yaxis": axis("final test accuracy", {"tickformat": ".1%"}),
    }
    bars = "; a bar is one deviation over seeds each way" if any(dot[2].deviation for dot in dots) else ""
    fewest = min(kept.mean for _, kept, _ in dots)
    sparsest = [dot for dot in dots if dot[1].mean <= 1.01 * fewest]
    style, kept, score = max(sparsest, key=lambda dot: dot[2].mean)
    seen = f"{style.label} keeps the fewest weights, {number(kept.mean)}, and ended at {percent(score.mean)}."
    if len(sparsest) > 1:
        seen = f"Of those with the fewest weights {style.label} is the most accurate, at {percent(score.mean)}."
    caption = f"Higher is more accurate, further left is sparser{bars}. {seen}"
    views = [View(label="", caption=caption, figure=figure([_dot(*dot) for dot in dots], layout))]
    return Chart(key="weights", title="Accuracy against active weights", views=views)


def _lines(curves: Curves, styles: Mapping[str, Style], over: Over, lowest: float) -> dict[str, Any]:
    traces: list[Any] = []
    for method, points in curves.items():
        known = [point for point in points if getattr(point, over) is not None]
        if known:
            traces += [*_band(known, styles[method], over), _line(known, styles[method], over)]
    tops = [point.accuracy.mean + (point.accuracy.deviation or 0.0) for line in curves.values() for point in line]
    highest = max(tops) + 0.03 * (max(tops) - lowest) + 0.001
    shape = {"tickformat": ".1%" if lowest else ".0%", "range": [lowest, highest]}
    layout = {
        "xaxis": axis(_AXIS_TITLES[over], {"rangemode": "tozero", "tickformat": ","}),
        "yaxis": axis("test accuracy", shape),
    }
    return figure(traces, layout)


def _line(points: Sequence[Point], style: Style, over: Over) -> Any:
    unit = "step %{x:,}" if over == "step" else "%{x:,.1f} s"
    return go.Scatter(
        x=[getattr(point, over) for point in points],
        y=[point.accuracy.mean for point in points],
        name=style.name,
        legendgroup=style.method,
        mode="lines+markers" if len(points) <= 40 else "lines",
        line={"color": style.colour, "dash": style.dash, "width": 2},
        marker={"symbol": style.symbol, "size": 6},
        hovertemplate=f"%{{y:.2%}} at {unit}<extra>%{{fullData.name}}</extra>",
        showlegend=True,
    )


def _band(points: Sequence[Point], style: Style, over: Over) -> list[Any]:
    """Return mean plus and minus one deviation as one closed outline; nothing for a single seed."""
    if points[0].accuracy.deviation is None:
        return []
    xs = [getattr(point, over) for point in points]
    above = [point.accuracy.mean + (point.accuracy.deviation or 0.0) for point in points]
    below = [point.accuracy.mean - (point.accuracy.deviation or 0.0) for point in points]
    outline = go.Scatter(
        x=xs + xs[::-1],
        y=above + below[::-1],
        fill="toself",
        fillcolor=faint(style.colour),
        mode="lines",
        line={"width": 0},
        legendgroup=style.method,
        showlegend=False,
        hoverinfo="skip",
    )
    return [outline]


def _dot(style: Style, kept: Spread, score: Spread) -> Any:
    return go.Scatter(
        x=[kept.mean],
        y=[score.mean],
        error_y={"array": [score.deviation or 0.0], "color": style.colour, "thickness": 1.5},
        mode="markers",
        marker={"color": style.colour, "symbol": style.symbol, "size": 12},
        name=style.name,
        hovertemplate="%{y:.2%} with %{x:,.0f} active weights<extra>%{fullData.name}</extra>",
    )


def _plateau(curves: Curves) -> float:
    """Return an accuracy just below what the methods show in the last three quarters of their steps."""
    late = [point.accuracy.mean for points in curves.values() for point in points if point.step >= points[-1].step / 4]
    return max(0.0, min(late) - 0.1 * (max(late) - min(late)) - 0.002)


def _leader(curves: Curves, styles: Mapping[str, Style]) -> str:
    method = max(curves, key=lambda name: curves[name][-1].accuracy.mean)
    last = curves[method][-1]
    ends = "ends highest, with" if len(curves) > 1 else "ends with"
    return f"{styles[method].label} {ends} {percent(last.accuracy.mean)} at step {last.step:,}."


def _durations(curves: Curves, styles: Mapping[str, Style]) -> str:
    spent = {styles[method].label: points[-1].seconds or 0.0 for method, points in curves.items()}
    ranked = sorted(spent, key=lambda name: spent[name])
    first, last = ranked[0], ranked[-1]
    if first == last:
        return f"{first} took {duration(spent[first])}."
    return f"{first} was done first, after {duration(spent[first])}, {last} last, after {duration(spent[last])}."
