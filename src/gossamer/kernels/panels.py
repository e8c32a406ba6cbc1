"""Which part of a batch and of its features a kernel works on at a time, so that what it gathers stays in the cache.

A sparse row gathers rows of the other operand in no order. So the operand is cut into tiles of the batch, as wide as
registers allow, and into stripes of features, as many as a part of the second cache holds; a tile narrower than
the batch is copied to a panel without gaps, because rows that lie a power of two apart share few sets of the cache.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numba
from numba import njit

from gossamer.kernels.blocks import OPTIONS
from gossamer.kernels.simd import CHUNK_BYTES, QUARTER_BYTES, load, load_first, store, store_first, width_bytes

# Entries of a row below which one more stripe costs more, in loads and stores of its sum, than the cache saves.
_ENTRIES = 12
# Stripes where rows begin with different ones: so many threads do not meet.
_TURNS = 4
# How often a thread must use a row of a panel for the copy to pay: where masked loads would take its place, where
# the cache would not hold a stripe, and in any case.
_USES_RAGGED = 2
_USES = 5
_USES_PAYING = 16
# Groups that the tiles of a batch are cut into, at most: a thread keeps to its own.
_GROUPS = 4
# What the groups may take for sums of their own.
_SUMS_BYTES = 32 << 20
# Blocks for each thread: more than one, so that a thread that is held up is not waited for.
_BLOCKS = 4


Width = tuple[int, ...] | tuple[None, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How one product is cut.

    Attributes:
        width: what a tile takes of the batch, see `simd`.
        stripe: gathered rows in a stripe, at least 1.
        num_stripes: stripes that the gathered operand has.
        packs: whether each stripe of a tile is copied to a panel.
        num_blocks: blocks to claim, as many of rows in each group.
        panel_bytes: size of one thread's panel.
        groups: groups of tiles, each with its own sums of what is summed over the batch.
    """

    width: Width
    stripe: int
    num_stripes: int
    packs: bool
    num_blocks: int
    panel_bytes: int
    groups: int = 1


@cache
def plan(
    *,
    rows: int,
    gathered: int,
    active: int,
    batch: int,
    itemsize: int,
    team: int,
    widest: int,
    groups: int = 1,
    rotates: bool = False,
) -> Plan:
    """Choose tile, stripe and panel for a product.

    Args:
        rows: rows that the kernel walks; each belongs to one thread.
        gathered: rows of the operand that the entries point to.
        active: number of entries.
        batch: number of samples.
        itemsize: bytes of one value, 4 or 8.
        team: number of threads.
        widest: chunks that the registers hold, see `WIDEST`.
        groups: from `groups_of`.
        rotates: whether rows begin with different stripes: then their number must not depend on the team, whatever
            is copied, and there are some even where the cache would hold all, unless groups keep threads apart.
    """
    width = tile_width(batch, itemsize, widest)
    tile_bytes, row_bytes = width_bytes(width), batch * itemsize
    cached = second_cache_bytes()
    most = max(1, active // (_ENTRIES * max(rows, 1)))
    of_group = -(-team // groups)
    uses = active / max(1, gathered * of_group)
    # Rows wider than a tile lie a power of two apart, as a rule: a tile of them has only its share of the cache.
    apart = _stripes(gathered * row_bytes, cached // 3)
    if row_bytes % tile_bytes and uses >= _USES_RAGGED:
        packs = True
    elif row_bytes <= tile_bytes:
        packs = False
    else:
        packs = uses >= _USES_PAYING or (apart > most and uses >= _USES)
    stripes = min(most, _stripes(gathered * tile_bytes, cached // 4) if packs else apart)
    if gathered * (tile_bytes if packs else row_bytes) <= cached // 3:
        stripes = 1
    if rotates:
        stripes = min(most, max(_TURNS if groups == 1 else 1, _stripes(gathered * tile_bytes, cached // 4)))
    stripe = max(1, -(-gathered // stripes))
    blocks = max(1, min(_BLOCKS, int(uses / _USES_PAYING))) if packs else _BLOCKS
    return Plan(
        width=width,
        stripe=stripe,
        num_stripes=max(1, -(-gathered // stripe)),
        packs=packs,
        num_blocks=blocks * of_group * groups,
        groups=groups,
        panel_bytes=stripe * tile_bytes if packs else 0,
    )


def _stripes(num_bytes: int, most_bytes: int) -> int:
    return max(1, -(-num_bytes // most_bytes))


@cache
def groups_of(batch: int, itemsize: int, widest: int, active: int = 0) -> int:
    """Return how many groups the tiles of a batch make; the number of threads has no say, as sums depend on it.

    Args:
        batch: number of samples.
        itemsize: bytes of one value, 4 or 8.
        widest: chunks that the registers hold, see `WIDEST`.
        active: sums that each group but the first needs room for.
    """
    num_tiles = -(-batch * itemsize // width_bytes(tile_width(batch, itemsize, widest)))
    groups = max(1, min(_GROUPS, num_tiles))
    return groups if (groups - 1) * active * itemsize <= _SUMS_BYTES else 1


def tile_width(batch: int, itemsize: int, widest: int) -> Width:
    """Return the width of the narrowest tile that covers the batch, or the widest.

    Args:
        batch: number of samples.
        itemsize: bytes of one value, 4 or 8.
        widest: chunks that the registers hold, see `WIDEST`.
    """
    if batch * itemsize <= CHUNK_BYTES // 2:
        return (None,) if batch * itemsize <= QUARTER_BYTES else (None, None)
    return chunk_width(batch, itemsize, widest)


def chunk_width(batch: int, itemsize: int, widest: int | None = None) -> tuple[int, ...]:
    """Return the same in whole chunks, for kernels that know no narrower tile."""
    chunks = 1
    while chunks < (WIDEST if widest is None else widest) and chunks * CHUNK_BYTES < batch * itemsize:
        chunks *= 2
    return (0,) * chunks


def widest_tile() -> int:
    """512-bit registers hold a tile of 8 chunks twice over; AVX2 and NEON one of 4."""
    features = numba.config.CPU_FEATURES
    if features is None:
        from llvmlite import binding

        # What Numba does too: a processor that is named by hand keeps the features of the one that is there.
        features = binding.get_host_cpu_features().flatten() if numba.config.CPU_NAME != "generic" else ""
    return 8 if "+avx512f" in features else 4


WIDEST = widest_tile()


@cache
def second_cache_bytes() -> int:
    """Return the size of the cache that each core has for itself; 512 KiB where the system does not say."""
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, size = ((index / name).read_text().strip() for name in ("level", "size"))
        except OSError:
            continue
        if level == "2" and size.endswith("K"):
            return int(size[:-1]) << 10
    return 512 << 10


@njit(**OPTIONS)
def take(array, row, column, width, count, ragged):
    """Return the tile at array[row, column]; lanes from `count` on are zero where `ragged` is not ()."""
    if len(ragged):
        return load_first(array, row, column, width, count)
    return load(array, row, column, width)


@njit(**OPTIONS)
def give(array, row, column, tile, count, ragged):
    """Write a tile to array[row, column]; no more than `count` lanes where `ragged` is not ()."""
    if len(ragged):
        store_first(array, row, column, tile, count)
    else:
        store(array, row, column, tile)


@njit(**OPTIONS)
def pack(array, low, high, column, width, count, panel):
    """Copy a tile of rows `low` to `high` to a panel, zeros where the batch ends."""
    lanes = panel.shape[1]
    if count >= lanes:
        for row in range(low, high):
            store(panel, row, 0, load(array, row, column, width))
    else:
        for row in range(low, high):
            store(panel, row, 0, load_first(array, row, column, width, count))
