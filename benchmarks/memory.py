"""Peak memory and time of making, training, evolving and saving one truly sparse layer.

    python benchmarks/memory.py
    python benchmarks/memory.py --features 16384 --active 500000 --batch 64

Each stage runs with the process's peak reset just before it (Linux); the figures are what the stage added at its peak.
"""

import argparse
import copy
import io
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from gossamer import recipes, topology
from gossamer.cli.tables import size_text
from gossamer.growth import fan_in_uniform
from gossamer.machine import describe_machine
from gossamer.nn import SparseLinear


def resident(field: str) -> int:
    """Return VmRSS or VmHWM, the present and the peak resident bytes of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"this system does not report {field}")


def peak_of(stage: Callable[[], object]) -> tuple[float, int]:
    """Return seconds and the bytes that a stage added at its peak."""
    Path("/proc/self/clear_refs").write_text("5")
    before, start = resident("VmRSS"), time.perf_counter()
    kept = stage()
    seconds = time.perf_counter() - start
    added = resident("VmHWM") - before
    del kept
    return seconds, added


def make(features: int, active: int) -> SparseLinear:
    generator = torch.Generator().manual_seed(0)
    places = topology.erdos_renyi((features, features), active, generator=generator)
    values = fan_in_uniform(topology.row_indices(places), places.row_pointers.diff(), generator=generator)
    return SparseLinear.from_topology(places, values, torch.zeros(features))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, default=50_000)
    parser.add_argument("--active", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    # Compile and load everything once on a small layer, so that no stage pays for it.
    small = make(1000, 10_000)
    small(torch.randn(options.batch, 1000, requires_grad=True)).sum().backward()

    rows: list[tuple[str, float, int]] = []
    rows.append(("make the layer", *peak_of(lambda: make(options.features, options.active))))
    layer = make(options.features, options.active)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01, momentum=0.9)
    sparsifier = recipes.set_(
        layer, optimizer, update_every=1, stop_step=10**9, generator=torch.Generator().manual_seed(1)
    )
    inputs = torch.randn(options.batch, options.features)

    def step() -> None:
        layer(inputs).square().mean().backward()
        optimizer.step()

    rows.append((f"first training step, batch {options.batch}", *peak_of(step)))
    rows.append(("one SET update", *peak_of(sparsifier.step)))
    rows.append(("copy the layer", *peak_of(lambda: copy.deepcopy(layer))))
    buffer = io.BytesIO()
    rows.append(("save its state", *peak_of(lambda: torch.save(layer.state_dict(), buffer))))

    console = Console()
    console.print(describe_machine())
    dense = 4 * options.features**2
    table = Table(
        title=f"{options.features:,} x {options.features:,}, {options.active:,} active weights "
        f"(dense weight alone: {size_text(dense)})",
        title_justify="left",
    )
    for header in ("stage", "time", "peak memory added", "bytes per active weight"):
        table.add_column(header, justify="left" if header == "stage" else "right")
    for name, seconds, added in rows:
        table.add_row(name, f"{seconds:.3f} s", size_text(added), f"{added / options.active:.0f}")
    console.print(table)


if __name__ == "__main__":
    main()
