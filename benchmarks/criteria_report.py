"""Accuracy by name and sparsity, and which orders of the literature hold: what criteria.py and growth.py print."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from line_chart import Panel

from gossamer.cli.tables import say, show_table

Row = Mapping[str, Any]
# Accuracies by (criterion, sparsity), of each seed.
Found = dict[tuple[str, float], dict[int, float]]

SOLVERS = ("woodfisher", "m_fac", "l_obs", "obc", "sparsegpt")
MASK_ONLY = ", mask only"
# The larger first.
CLAIMS = (
    *((name, name + MASK_ONLY) for name in SOLVERS),
    *((name + MASK_ONLY, "magnitude") for name in SOLVERS),
    *((name, "magnitude") for name in SOLVERS),
    ("magnitude", "random"),
    ("magnitude_global", "magnitude"),
    ("lamp", "magnitude"),
    ("lamp", "magnitude_global"),
)
# Of ten classes: below this a network knows next to nothing, and an order says nothing.
NEAR_CHANCE = 0.15


def collect(rows: Sequence[Row], *, network: str, finetune: int) -> Found:
    """Gather the accuracies of one network after some passes of training; rows of failures are left out."""
    found: Found = {}
    for row in rows:
        if row["network"] == network and row["finetune"] == finetune and "accuracy" in row:
            found.setdefault((row["criterion"], row["sparsity"]), {})[row["seed"]] = row["accuracy"]
    return found


def panel(found: Found, *, title: str, whole: str = "unpruned", low: float = 0.0) -> Panel:
    """Return the means as lines; masks without their solver's update are left to the table.

    Args:
        found: accuracies.
        title: above it.
        whole: what the dense network is called.
        low: where the y axis begins.
    """
    lines: dict[str, list[tuple[float, float]]] = {}
    for (name, sparsity), values in sorted(found.items()):
        if sparsity and MASK_ONLY not in name:
            lines.setdefault(name, []).append((sparsity, statistics.fmean(values.values())))
    return Panel(title=title, lines=lines, top=_mean(found["dense", 0.0]), top_name=whole, low=low)


def show_accuracies(
    found: Found, *, title: str, header: str = "criterion", whole: str = "unpruned", digits: int = 1
) -> None:
    """Print mean and deviation over the seeds in per cent, the best name on average first.

    Args:
        found: accuracies.
        title: above the table.
        header: of the names.
        whole: what the dense network is called.
        digits: after the point.
    """
    sparsities = sorted({sparsity for name, sparsity in found if name != "dense"})
    names = list(dict.fromkeys(name for name, _ in found if name != "dense"))
    names.sort(key=lambda name: -sum(_mean(found.get((name, sparsity))) for sparsity in sparsities))
    seeds = max(map(len, found.values()))
    dense = cell(found.get(("dense", 0.0)), seeds=seeds, digits=digits)
    say(f"\n{title}: {whole} {dense} %, {seeds} seeds; a cell of fewer seeds says so")
    columns = {
        f"{sparsity:g}": [cell(found.get((name, sparsity)), seeds=seeds, digits=digits) for name in names]
        for sparsity in sparsities
    }
    show_table(header, names, columns)


def show_order(
    found: Found, *, title: str, num_images: int, claimed: Sequence[tuple[str, str]] = CLAIMS, digits: int = 1
) -> None:
    """Print for each order that the literature claims what this run says of it, and how often it holds.

    Args:
        found: accuracies.
        title: above the table.
        num_images: that were tested; what they could do by chance stands in where there is one seed.
        claimed: pairs of names, the larger first.
        digits: after the point.
    """
    sparsities = sorted({sparsity for name, sparsity in found if name != "dense"})
    names = {name for name, _ in found}
    claims = [claim for claim in claimed if names.issuperset(claim)]
    if not claims:
        say(f"\n{title}: none of the claimed orders is between two criteria of this run")
        return
    cells = {
        (claim, sparsity): _verdict(found, claim, sparsity, num_images, digits)
        for claim in claims
        for sparsity in sparsities
    }
    say(f"\n{title}: does the order hold? difference in points ± its spread")
    columns = {f"{sparsity:g}": [cells[claim, sparsity] for claim in claims] for sparsity in sparsities}
    show_table("claim", [" >= ".join(claim) for claim in claims], columns)
    say("holds, FAILS: the difference is beyond its spread; even: within it; chance: neither is above 15 %")
    for word in ("holds", "even", "FAILS", "chance"):
        where = [f"{' >= '.join(claim)} at {s:g}" for (claim, s), cell in cells.items() if cell.endswith(word)]
        say(f"{word}: {len(where)} of {len(cells)}" + (": " + "; ".join(where) if where and word == "FAILS" else ""))


def _verdict(found: Found, claim: tuple[str, str], sparsity: float, num_images: int, digits: int) -> str:
    """The difference of the two on the same seeds, and what it says."""
    better, worse = (found.get((name, sparsity), {}) for name in claim)
    seeds = sorted(better.keys() & worse.keys())
    if not seeds:
        return "-"
    pairs = [(better[seed], worse[seed]) for seed in seeds]
    differences = [one - other for one, other in pairs]
    mean = statistics.fmean(differences)
    # One seed has no deviation; then what the choice of test images alone could do.
    sampling = math.sqrt(sum(value * (1 - value) for value in pairs[0]) / num_images)
    spread = statistics.stdev(differences) if len(differences) > 1 else sampling
    word = "holds" if mean > spread else "FAILS" if mean < -spread else "even"
    if all(value < NEAR_CHANCE for pair in pairs for value in pair):
        word = "chance"
    return f"{100 * mean:+.{digits}f}±{100 * spread:.{digits}f} {word}"


def _mean(values: Mapping[int, float] | None) -> float:
    return statistics.fmean(values.values()) if values else 0.0


def cell(values: Mapping[int, float] | None, *, seeds: int = 0, digits: int = 1) -> str:
    """Write mean and deviation of fractions in per cent; of fewer than so many seeds it says of how many."""
    if not values:
        return "-"
    every = [100 * value for value in values.values()]
    spread = f"±{statistics.stdev(every):.{digits}f}" if len(every) > 1 else ""
    fewer = f" ({len(every)})" if len(every) < seeds else ""
    return f"{statistics.fmean(every):.{digits}f}{spread}{fewer}"
