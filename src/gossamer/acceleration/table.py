"""What accelerate measured and chose, as a record and as a table of text."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LayerTimes:
    """One layer of the model given.

    Attributes:
        layer: its name.
        sparsity: fraction of its weights that do not exist or are zero.
        given: the storage that it had: dense or csr.
        chosen: the storage that it has now.
        times_ms: milliseconds of all its calls in one forward pass, by storage; empty where nothing was timed.
        given_bytes: memory that it took.
        bytes: memory that it takes now.
        reason: why it was left as it was; empty where it was not.
        rounded: whether its values are rounded now.
        difference: where they are: by how much outputs differed at most, as a fraction of the largest output.
    """

    layer: str
    sparsity: float
    given: str
    chosen: str
    times_ms: dict[str, float]
    given_bytes: int
    bytes: int
    reason: str
    rounded: bool = False
    difference: float = 0.0

    @property
    def dense_ms(self) -> float | None:
        """Milliseconds as a dense layer; None where that was not timed."""
        return self.times_ms.get("dense")

    @property
    def ms(self) -> float | None:
        """Milliseconds in the storage that was chosen; None where it was not timed."""
        return self.times_ms.get(self.chosen)

    @property
    def remark(self) -> str:
        """Why it was left as it was, or that its values were rounded."""
        if not self.rounded:
            return self.reason
        return f"values are rounded: outputs differ by up to {100 * self.difference:.2g} %"


@dataclass(frozen=True, kw_only=True)
class Accelerated:
    """What `accelerate` did; printed, it is a table.

    Attributes:
        layers: one row for each layer that could be held otherwise, in the order of the model.
        given_ms: milliseconds of a forward pass of the model given; None where nothing was left to compare.
        ms: milliseconds of a forward pass of the result; None likewise.
        given_bytes: parameters and buffers of the model given.
        bytes: parameters and buffers of the result.
        from_cache: whether the times are of an earlier call.
        note: why the model is as it was given; empty where it is not.
    """

    layers: tuple[LayerTimes, ...]
    given_ms: float | None
    ms: float | None
    given_bytes: int
    bytes: int
    from_cache: bool
    note: str

    @property
    def is_faster(self) -> bool:
        """Whether any layer changed its storage."""
        return any(row.chosen != row.given for row in self.layers)

    def __str__(self) -> str:
        header = ["layer", "sparsity", "dense ms", "chosen", "ms", "bytes", ""]
        rows = [header, *(_cells(row) for row in self.layers)]
        before = "" if self.ms is None else f"given: {_ms(self.given_ms)} ms, {self.given_bytes:,} bytes"
        rows.append(["model", "", "", "", _ms(self.ms), f"{self.bytes:,}", before])
        lines = _aligned(rows)
        return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:], *([self.note] if self.note else [])])


def _cells(row: LayerTimes) -> list[str]:
    times = _ms(row.dense_ms), row.chosen, _ms(row.ms)
    return [row.layer or "(the model)", f"{100 * row.sparsity:.1f} %", *times, f"{row.bytes:,}", row.remark]


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    words = (0, 3, 6)
    return [
        "  ".join(
            cell.ljust(width) if place in words else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
