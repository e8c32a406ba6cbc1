"""The charts of how many active weights each neuron has, before and after training."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from gossamer.report.figures import INK, Chart, Settings, Style, View, axis, figure
from gossamer.report.records import Degrees, Layer, Run
from gossamer.report.summary import Summary, is_sparse
from gossamer.report.words import number

_MOST_BARS = 80


def degree_distributions(summaries: Sequence[Summary], styles: Mapping[str, Style]) -> Chart | None:
    """Chart how many connections the neurons of each layer have, before and after training.

    Args:
        summaries: all methods of the page; those with every weight active are left out.
        styles: how each looks.

    Returns:
        The chart with one view a layer of each method; None where no degrees were recorded.
    """
    views = [view for item in summaries if is_sparse(item) for view in _degree_views(item.runs[0], styles[item.method])]
    return Chart(key="degrees", title="Connections of the neurons", views=views) if views else None


def most_connected(label: str, run: Run) -> str:
    """Say which neuron has the most active weights, and how that compares with its layer.

    Args:
        label: the name of the method.
        run: one run with degrees.

    Returns:
        One sentence; empty without degrees.
    """
    sides = _sides(run.after) or _sides(run.before)
    if not sides:
        return ""
    (name, kind), degrees = max(sides.items(), key=lambda side: side[1][-1][0])
    most, mean = degrees[-1][0], _mean(degrees)
    when = "after" if run.after else "before"
    said = (
        f"The most connected neuron of {label} {when} training: an {kind} of layer {name} with {most:,} active weights"
    )
    if mean:
        said += f", {number(most / mean)} times the mean of {number(mean)}"
    earlier = _sides(run.before).get((name, kind)) if run.after else None
    return f"{said}; before training the most was {earlier[-1][0]:,}." if earlier else f"{said}."


def _sides(layers: Sequence[Layer]) -> dict[tuple[str, str], Degrees]:
    """Return the degrees of the inputs and of the outputs of each layer that recorded them."""
    sides = {(layer.name, "input"): layer.out_degrees for layer in layers}
    sides |= {(layer.name, "output"): layer.in_degrees for layer in layers}
    return {side: degrees for side, degrees in sides.items() if degrees}


def binned(degrees: Degrees, width: int) -> dict[int, int]:
    """Count the neurons in bins of degrees.

    Args:
        degrees: pairs (degree, how many neurons).
        width: how many degrees a bin holds.

    Returns:
        Neurons by the first degree of their bin, empty bins between included.

    Example:
        >>> binned(((1, 5), (2, 3), (7, 1)), 3)
        {0: 8, 3: 0, 6: 1}
    """
    if not degrees:
        return {}
    starts = range(degrees[0][0] // width * width, degrees[-1][0] + 1, width)
    bins = dict.fromkeys(starts, 0)
    for degree, count in degrees:
        bins[degree // width * width] += count
    return bins


def _degree_views(run: Run, style: Style) -> list[View]:
    before = {layer.name: layer for layer in run.before}
    after = {layer.name: layer for layer in run.after}
    seed = "" if run.start.seed is None else f" (seed {run.start.seed})"
    how = "How many neurons (up) have how many active weights (right): the line before training, the bars after."
    caption = f"{how} {most_connected(style.label, run)}"
    views = []
    for name in dict.fromkeys((*before, *after)):
        made = _degree_figure(before.get(name), after.get(name), style)
        if made:
            views.append(View(label=f"layer {name}", group=f"{style.label}{seed}", caption=caption, figure=made))
    return views


def _degree_figure(before: Layer | None, after: Layer | None, style: Style) -> Settings | None:
    """Draw the outputs of a layer above its inputs."""
    inputs = (before.in_degrees if before else (), after.in_degrees if after else ())
    outputs = (before.out_degrees if before else (), after.out_degrees if after else ())
    traces = [*_panel(*inputs, ("x", "y"), style), *_panel(*outputs, ("x2", "y2"), style)]
    if not traces:
        return None
    count = {"tickformat": ",", "rangemode": "tozero"}
    layout = {
        "barmode": "overlay",
        "bargap": 0,
        "xaxis": axis("active inputs of an output neuron", {"anchor": "y", "rangemode": "tozero"}),
        "yaxis": axis("output neurons", {**count, "anchor": "x", "domain": [0.6, 1.0]}),
        "xaxis2": axis("active outputs of an input neuron", {"anchor": "y2", "rangemode": "tozero"}),
        "yaxis2": axis("input neurons", {**count, "anchor": "x2", "domain": [0.0, 0.4]}),
    }
    return figure(traces, layout, height=560)


def _panel(before: Degrees, after: Degrees, axes: tuple[str, str], style: Style) -> list[Any]:
    """Return the bars after training and the outline before it, on the same bins."""
    largest = max(degree for degree, _ in (*before, *after, (0, 0)))
    width = largest // _MOST_BARS + 1
    return [*_bars(after, width, axes, style), *_outline(before, width, axes)]


def _bars(degrees: Degrees, width: int, axes: tuple[str, str], style: Style) -> list[Any]:
    bins = binned(degrees, width)
    if not bins:
        return []
    bars = go.Bar(
        x=[start + (width - 1) / 2 for start in bins],
        y=list(bins.values()),
        width=width,
        customdata=[_range(start, width) for start in bins],
        marker={"color": style.colour, "opacity": 0.75, "line": {"width": 0}},
        name="after training",
        legendgroup="after",
        showlegend=axes[0] == "x",
        xaxis=axes[0],
        yaxis=axes[1],
        hovertemplate="%{customdata} active weights: %{y:,} neurons<extra>%{fullData.name}</extra>",
    )
    return [bars]


def _outline(degrees: Degrees, width: int, axes: tuple[str, str]) -> list[Any]:
    """Return a line around the bins; it starts and ends on the zero line."""
    bins = binned(degrees, width)
    if not bins:
        return []
    edges = [start - 0.5 for start in bins]
    counts = list(bins.values())
    line = go.Scatter(
        x=[edges[0], *edges, edges[-1] + width, edges[-1] + width],
        y=[0, *counts, counts[-1], 0],
        mode="lines",
        line={"color": INK, "width": 1.5, "shape": "hv"},
        name="before training",
        legendgroup="before",
        showlegend=axes[0] == "x",
        xaxis=axes[0],
        yaxis=axes[1],
        hoverinfo="skip",
    )
    return [line]


def _range(start: int, width: int) -> str:
    return f"{start:,}" if width == 1 else f"{start:,} to {start + width - 1:,}"


def _mean(degrees: Degrees) -> float:
    neurons = sum(count for _, count in degrees)
    return sum(degree * count for degree, count in degrees) / neurons if neurons else 0.0
