"""The chart of how dense each layer is, before and after training."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from gossamer.report.figures import Chart, Style, View, axis, faint, figure, plain
from gossamer.report.summary import Summary, is_sparse, spread
from gossamer.report.words import percent


def layer_densities(summaries: Sequence[Summary], styles: Mapping[str, Style]) -> Chart | None:
    """Chart the density of each layer before and after training, method by method.

    Args:
        summaries: all methods of the page; those with every weight active are left out.
        styles: how each looks.

    Returns:
        The chart; None where no method has a sparse layer.
    """
    sparse = [item for item in summaries if is_sparse(item)]
    if not sparse:
        return None
    traces: list[Any] = []
    changes: list[tuple[float, str]] = []
    for item in sparse:
        before, after = _densities(item, "before"), _densities(item, "after")
        traces += _pair(before, after, styles[item.method])
        for name in before.keys() & after.keys():
            words = f"layer {name} of {item.label}, from {percent(before[name])} to {percent(after[name])}"
            changes.append((abs(after[name] - before[name]), words))
    layout = {
        "barmode": "group",
        "xaxis": axis("layer", {"type": "category"}),
        "yaxis": axis("density (active / all weights)", {"tickformat": ".0%", "rangemode": "tozero"}),
    }
    caption = f"Of each pair the pale bar is before training, the full one after. {_moved(changes)}"
    views = [View(label="", caption=caption, figure=figure(traces, layout))]
    return Chart(key="density", title="Density of each layer", views=views)


def _densities(item: Summary, when: str) -> dict[str, float]:
    """Return the mean density over seeds of each layer, by its name."""
    layers = [layer for run in item.runs for layer in (run.before if when == "before" else run.after)]
    names = dict.fromkeys(layer.name for layer in layers)
    found = {name: spread(layer.density for layer in layers if layer.name == name) for name in names}
    return {name: value.mean for name, value in found.items() if value is not None}


def _pair(before: Mapping[str, float], after: Mapping[str, float], style: Style) -> list[Any]:
    return [
        go.Bar(
            x=[plain(name) for name in densities],
            y=list(densities.values()),
            name=f"{style.name} {when}",
            legendgroup=style.method,
            marker={"color": colour, "line": {"color": style.colour, "width": 1}},
            hovertemplate="layer %{x}: %{y:.2%} active<extra>%{fullData.name}</extra>",
        )
        for when, densities, colour in (("before", before, faint(style.colour)), ("after", after, style.colour))
        if densities
    ]


def _moved(changes: Sequence[tuple[float, str]]) -> str:
    if not changes:
        return ""
    largest, words = max(changes)
    return f"The largest change is {words}." if largest >= 0.0005 else "No layer changed its density."
