"""Time what makes and changes a topology against scipy.sparse, interleaved in one run, on one thread.

    python benchmarks/topology.py
    python benchmarks/topology.py --up-to 1e6 --rounds 15

Each row is one operation: what scipy does for it, the medians of both, nanoseconds for each entry, the bytes of what is
read and written at the least. CPU time of the thread, so that other programs on the machine count little.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
import torch
from rich.console import Console
from rich.table import Table

from gossamer import recipes, sampling, topology
from gossamer.growth import fan_in_uniform_of
from gossamer.machine import describe_machine
from gossamer.nn import SparseLinear
from gossamer.topology import Topology

# rows, columns, entries
SIZES = (
    (1000, 1000, 50_000),
    (10_000, 10_000, 1_000_000),
    (50_000, 50_000, 1_000_000),
    (5_000_000, 5_000_000, 10_000_000),
    (500_000, 65_536, 10_000_000),
    (65_536, 500_000, 10_000_000),
)
Pair = tuple[Callable[[], object], Callable[[], object], int]


def csr(places: Topology) -> sp.csr_array:
    """Return the same entries as scipy holds them, with values of one."""
    arrays = (np.ones(places.num_active, np.float32), places.column_indices.numpy(), places.row_pointers.numpy())
    return sp.csr_array(arrays, shape=places.shape)


def operations(rows: int, columns: int, count: int) -> dict[str, Pair]:
    """Return for each operation what Gossamer and what scipy does, and the bytes of its operands and results."""
    generator, random = torch.Generator().manual_seed(0), np.random.default_rng(0)
    shape, total = (rows, columns), rows * columns
    places = topology.erdos_renyi(shape, count, generator=generator)
    linear = topology.linear_indices(places)
    # A tenth goes and a tenth comes, as in an update.
    kept = sampling.distinct(count, count - count // 10, generator=generator)
    grown = sampling.absent(linear, total, count // 10, generator=generator)
    old, added = csr(places), csr(topology.from_linear(grown, shape))
    survivors = csr(topology.from_linear(linear[kept], shape))
    row_list, column_list = topology.row_indices(places), places.column_indices.long()
    pointers = 4 * (rows + 1)
    found: dict[str, Pair] = {
        "make at random": (
            lambda: topology.erdos_renyi(shape, count, generator=generator),
            lambda: sp.random_array(shape, density=count / total, format="csr", dtype=np.float32, rng=random),
            4 * count + pointers,
        ),
        "grow": (
            lambda: topology.exchange(places, kept, grown),
            lambda: survivors + added,
            (4 + 8 + 4 + 4) * count + 2 * pointers,
        ),
        "transpose": (lambda: topology.transpose(places), old.tocsc, 12 * count + pointers + 4 * (columns + 1)),
        "from coordinates": (
            lambda: topology.from_linear(linear, shape),
            lambda: sp.coo_array((old.data, (row_list.numpy(), column_list.numpy())), shape=shape).tocsr(),
            12 * count + pointers,
        ),
        "rows of entries": (
            lambda: topology.row_indices(places),
            lambda: np.repeat(np.arange(rows), np.diff(old.indptr)),
            8 * count + pointers,
        ),
    }
    if total <= 10**8:
        mask = topology.to_mask(places)
        found["from a mask"] = (
            lambda: topology.from_mask(mask),
            lambda: sp.csr_array(mask.numpy()),
            total + 4 * count + pointers,
        )
    return found


def medians(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Return seconds of both, in turns; the first round compiles."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds + 1):
        for run, taken in zip((ours, theirs), times, strict=True):
            start = time.thread_time()
            run()
            taken.append(time.thread_time() - start)
    return statistics.median(times[0][1:]), statistics.median(times[1][1:])


def evolution(rows: int, columns: int, count: int, rounds: int) -> float:
    """Return the seconds of a whole update of SET: drop, grow, rebuild, momentum and transpose."""
    generator = torch.Generator().manual_seed(0)
    places = topology.erdos_renyi((rows, columns), count, generator=generator)
    layer = SparseLinear.from_topology(places, fan_in_uniform_of(places.row_pointers, generator=generator))
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01, momentum=0.9)
    sparsifier = recipes.set_(layer, optimizer, update_every=1, stop_step=10**9, generator=generator)
    times = []
    for _ in range(rounds + 1):
        layer.values.grad = torch.randn(layer.num_active, generator=generator)
        optimizer.step()
        start = time.thread_time()
        sparsifier.step()
        times.append(time.thread_time() - start)
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--up-to", type=float, default=1e7, help="largest number of entries")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=110)
    console.print(describe_machine())
    for rows, columns, count in (size for size in SIZES if size[2] <= options.up_to):
        table = Table(title=f"{rows:,} x {columns:,}, {count:,} entries", title_justify="left")
        for header in ("operation", "gossamer", "ns per entry", "bytes per entry", "scipy", "times faster"):
            table.add_column(header, justify="left" if header == "operation" else "right")
        for name, (ours, theirs, moved) in operations(rows, columns, count).items():
            mine, other = medians(ours, theirs, options.rounds)
            cells = (f"{1e3 * mine:.2f} ms", f"{1e9 * mine / count:.1f}", f"{moved / count:.0f}")
            table.add_row(name, *cells, f"{1e3 * other:.2f} ms", f"{other / mine:.2f}")
        whole = evolution(rows, columns, count, options.rounds)
        table.add_row("one update of SET", f"{1e3 * whole:.2f} ms", f"{1e9 * whole / count:.1f}", "", "", "")
        console.print(table)


if __name__ == "__main__":
    main()
