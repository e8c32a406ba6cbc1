"""Draw lines with a legend into an SVG file: one panel beside the other, readable without telling colours apart."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

# Okabe and Ito's colours for all kinds of sight, without the yellow, which white paper swallows; black and a grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7A7A7A")
DASHES = ("", "7 3", "2 3")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 620, 470, 58, 190, 46, 54
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One set of axes.

    Attributes:
        title: above it.
        lines: points (sparsity, accuracy) by the name of their line.
        top: accuracy of the dense network, drawn as a thin line.
        top_name: what its legend calls it.
        low: where the y axis begins, a multiple of 0.05 below 1.
    """

    title: str
    lines: Mapping[str, Points]
    top: float
    top_name: str = "unpruned"
    low: float = 0.0


def svg(panels: Sequence[Panel], *, x_label: str, y_label: str) -> str:
    """Return the text of an SVG file; a name has the same look in all panels.

    The x axis shows the density on a scale of logarithms, so that 0.95 and 0.98 stand as far apart as they are hard.
    """
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    looks = {name: (COLOURS[i % 8], DASHES[i // 8 % 3], i) for i, name in enumerate(names)}
    drawn = [_panel(panel, looks, i * WIDTH, x_label, y_label) for i, panel in enumerate(panels)]
    size = f'width="{WIDTH * len(panels)}" height="{HEIGHT}" viewBox="0 0 {WIDTH * len(panels)} {HEIGHT}"'
    font = 'font-family="sans-serif" font-size="12" fill="#222"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    return "\n".join([*parts, *drawn, "</svg>\n"])


def _panel(panel: Panel, looks: Mapping[str, tuple[str, str, int]], shift: int, x_label: str, y_label: str) -> str:
    ticks = sorted({sparsity for points in panel.lines.values() for sparsity, _ in points})
    low, high = -math.log(1 - ticks[0]), -math.log(1 - ticks[-1])
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(sparsity: float) -> float:
        part = (-math.log(1 - sparsity) - low) / (high - low) if high > low else 0.5
        return LEFT + 12 + part * (right - LEFT - 24)

    def y(value: float) -> float:
        return bottom - max(0.0, value - panel.low) / (1 - panel.low) * (bottom - TOP)

    parts = [f'<g transform="translate({shift} 0)">', _text(LEFT, 26, panel.title, 'font-size="15"')]
    for fifth in range(6):
        level = panel.low + (1 - panel.low) * fifth / 5
        parts.append(_rule(LEFT, y(level), right, y(level), "#ddd"))
        parts.append(_text(LEFT - 8, y(level) + 4, f"{100 * level:.0f}", 'text-anchor="end"'))
    for tick in ticks:
        parts.append(_rule(x(tick), bottom, x(tick), bottom + 5, "#222"))
        parts.append(_text(x(tick), bottom + 19, f"{tick:g}", 'text-anchor="middle"'))
    parts.append(_rule(LEFT, bottom, right, bottom, "#222"))
    parts.append(_text((LEFT + right) / 2, HEIGHT - 12, x_label, 'text-anchor="middle"'))
    turned = f'text-anchor="middle" transform="rotate(-90 16 {(TOP + bottom) / 2})"'
    parts.append(_text(16, (TOP + bottom) / 2, y_label, turned))
    parts.append(_rule(LEFT, y(panel.top), right, y(panel.top), "#222"))
    parts.append(_text(right + 14, TOP + 4, f"{panel.top_name}: {100 * panel.top:.1f} (line)"))
    # The legend in the order of the lines on average, best first.
    order = sorted(panel.lines, key=lambda name: -sum(v for _, v in panel.lines[name]) / len(panel.lines[name]))
    for place, name in enumerate(order):
        height = TOP + 26 + 18 * place
        parts.append(_line([(x(s), y(v)) for s, v in sorted(panel.lines[name])], looks[name], name))
        parts.append(_line([(right + 14, height), (right + 46, height)], looks[name], name))
        parts.append(_text(right + 54, height + 4, name))
    return "\n".join([*parts, "</g>"])


def _line(points: Points, look: tuple[str, str, int], name: str) -> str:
    colour, dash, number = look
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    marks = "".join(_mark(x, y, number) for x, y in points)
    line = f'<polyline points="{path}" fill="none" stroke-width="1.8"{dashed}/>'
    return f'<g stroke="{colour}" fill="{colour}"><title>{escape(name)}</title>{line}{marks}</g>'


def _mark(x: float, y: float, number: int) -> str:
    """A shape of its own for each of seven neighbours, so that colour is not all that tells lines apart."""
    sides = (0, 4, 3, 5, 2, 6, 1)[number % 7]
    if sides == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.4"/>'
    if sides == 1:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.4" fill="#fff"/>'
    if sides == 2:
        return f'<path d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8" stroke-width="2"/>'
    corners = ((2 * math.pi * k / sides - math.pi / 2) for k in range(sides))
    path = " ".join(f"{x + 4.4 * math.cos(a):.1f},{y + 4.4 * math.sin(a):.1f}" for a in corners)
    return f'<polygon points="{path}"/>'


def _rule(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(text)}</text>'
