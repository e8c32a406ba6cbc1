"""Write numbers for people: percent, bytes, times, ratios."""

from gossamer.report.summary import Spread

MISSING = "\u2013"
_SPACE = "\u00a0"
_TIMES = "\u00d7"
_PLUS_MINUS = "\u00b1"


def percent(fraction: float, digits: int = 1) -> str:
    """Write a fraction in [0, 1] as percent.

    Example:
        >>> percent(0.9784).replace("\u00a0", " ")
        '97.8 %'
    """
    return f"{100 * fraction:.{digits}f}{_SPACE}%"


def times(value: float) -> str:
    """Write a ratio; the sign is a multiplication sign."""
    return f"{value:.2f}{_TIMES}"


def size(num_bytes: float) -> str:
    """Write bytes in decimal units.

    Example:
        >>> size(8_040_000).replace("\u00a0", " ")
        '8.0 MB'
    """
    if num_bytes < 1000:
        return f"{num_bytes:.0f}{_SPACE}B"
    for unit, power in (("kB", 1e3), ("MB", 1e6)):
        if num_bytes < 999.95 * power:
            return f"{num_bytes / power:.1f}{_SPACE}{unit}"
    return f"{num_bytes / 1e9:.1f}{_SPACE}GB"


def number(value: float) -> str:
    """Write a number with three significant digits, whole from 100 on.

    Example:
        >>> number(3.14159), number(100500.0)
        ('3.14', '100,500')
    """
    return f"{value:,.0f}" if abs(value) >= 99.95 else f"{value:#.3g}"


def duration(seconds: float) -> str:
    """Write a time as seconds, or as minutes or hours where that reads better.

    Example:
        >>> duration(200).replace("\u00a0", " ")
        '3 min 20 s'
    """
    if seconds < 120:
        return f"{number(seconds)}{_SPACE}s"
    whole = round(seconds)
    if whole < 7200:
        return f"{whole // 60}{_SPACE}min {whole % 60}{_SPACE}s"
    return f"{whole // 3600}{_SPACE}h {whole % 3600 // 60}{_SPACE}min"


def with_deviation(value: Spread, digits: int = 1) -> str:
    """Write an accuracy in percent with its deviation over seeds."""
    if value.deviation is None:
        return percent(value.mean, digits)
    return f"{100 * value.mean:.{digits}f} {_PLUS_MINUS}{_SPACE}{100 * value.deviation:.{digits}f}{_SPACE}%"


def saves(value: float | None) -> bool:
    """Whether a ratio to dense, as it is shown, is below one: 0.998 shows as 1.00 and saves nothing."""
    return value is not None and round(value, 2) < 1
