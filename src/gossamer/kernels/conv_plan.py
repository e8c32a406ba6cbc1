"""How a sparse convolution walks its images: the padded copies that it reads, the tiles that it fills, in plain Python.

A convolution and the gradient of its input are the same walk. Its *source* image (the input, or the gradient of the
output) is copied, a few samples at a time, into a padded scratch; its *target* image is written tile by tile. An axis
with a stride is taken apart into *phases*: each phase holds every stride-th row, and within it the walk has no stride.
So each weight reads the scratch at an offset of its own plus the place of the tile, and `table` holds these offsets.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.kernels import panels
from gossamer.kernels.simd import CHUNK_BYTES

# Bytes of the scratch of one thread, at most: it should stay in the second cache.
_SCRATCH_BYTES = 1 << 20
# Bytes of the part of it that the tile of one block of channels reads: it should stay in the first cache.
_TILE_BYTES = 38 << 10
_HEIGHTS = (1, 2, 4, 7, 8, 14, 16)
_WIDTHS = (1, 2, 4, 8, 16)


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The sizes of a convolution of images; pairs are (height, width).

    Attributes:
        batch: samples.
        inputs, outputs: channels.
        groups: parts that the channels are cut into.
        image: size of the input.
        kernel, stride, dilation: as in nn.Conv2d.
        padding: rows above and columns left of the image.
        result: size of the output.
    """

    batch: int
    inputs: int
    outputs: int
    groups: int
    image: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int]
    result: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a kernel is given beside its operands.

    Attributes:
        numbers: sizes as int64, in the order of `NAMES`.
        table: where a weight reads in the scratch, by (channel within the group, place in the kernel), int64.
        height, width: rows of a tile, and how many times 64 bytes each is wide.
        num_portions: pieces that the target is cut into: groups of samples times bands of rows.
        source_floats, target_floats: size of one thread's copies of a portion of the source, and of the target for the
            gradient of the weights.
    """

    numbers: Tensor
    table: Tensor
    height: int
    width: int
    num_portions: int
    source_floats: int
    target_floats: int


# The order of the numbers, which `conv` reads by these places.
NAMES = (
    "batch",
    "side",
    "source_channels",
    "source_height",
    "source_width",
    "phases_height",
    "phases_width",
    "origin_height",
    "origin_width",
    "packed_rows",
    "packed_stride",
    "period",
    "channel_stride",
    "target_channels",
    "target_height",
    "target_width",
    "step_height",
    "step_width",
    "start_height",
    "start_width",
    "tiles_height",
    "tiles_width",
    "bands",
    "groups",
    "block_columns",
    "row_columns",
    "band_rows",
)


def forward(geometry: Geometry, itemsize: int) -> Plan:
    """Plan y from x."""
    spread = tuple((size - 1) * dilation for size, dilation in zip(geometry.kernel, geometry.dilation, strict=True))
    reach = tuple(extent // stride for extent, stride in zip(spread, geometry.stride, strict=True))
    places = [
        (
            row % geometry.stride[0] * geometry.stride[1] + column % geometry.stride[1],
            row // geometry.stride[0],
            column // geometry.stride[1],
        )
        for row in range(0, spread[0] + 1, geometry.dilation[0])
        for column in range(0, spread[1] + 1, geometry.dilation[1])
    ]
    return _plan(
        geometry,
        itemsize,
        source=(geometry.inputs, *geometry.image),
        target=(geometry.outputs, *geometry.result),
        phases=geometry.stride,
        origin=(-geometry.padding[0], -geometry.padding[1]),
        step=(1, 1),
        start=(0, 0),
        positions=geometry.result,
        reach=reach,
        places=places,
        limit=panels.WIDEST * 2 if panels.WIDEST == 8 else 4,
    )


def backward(geometry: Geometry, itemsize: int, *, fused: bool) -> Plan:
    """Plan the gradient of x from that of y; `fused` with the gradient of the weights, which needs registers too."""
    first = tuple(padding // stride for padding, stride in zip(geometry.padding, geometry.stride, strict=True))
    positions = tuple(
        (padding + size - 1) // stride + 1 - start if size else 0
        for padding, size, stride, start in zip(geometry.padding, geometry.image, geometry.stride, first, strict=True)
    )
    spread = tuple((size - 1) * dilation for size, dilation in zip(geometry.kernel, geometry.dilation, strict=True))
    reach = tuple(extent // stride for extent, stride in zip(spread, geometry.stride, strict=True))
    places = [
        (0, reach[0] - row // geometry.stride[0], reach[1] - column // geometry.stride[1])
        for row in range(0, spread[0] + 1, geometry.dilation[0])
        for column in range(0, spread[1] + 1, geometry.dilation[1])
    ]
    widest = 16 if panels.WIDEST == 8 else 4
    return _plan(
        geometry,
        itemsize,
        source=(geometry.outputs, *geometry.result),
        target=(geometry.inputs, *geometry.image),
        phases=(1, 1),
        origin=(first[0] - reach[0], first[1] - reach[1]),
        step=geometry.stride,
        start=tuple(
            place * stride - padding
            for place, stride, padding in zip(first, geometry.stride, geometry.padding, strict=True)
        ),
        positions=positions,
        reach=reach,
        places=places,
        limit=widest // 2 if fused else widest,
    )


def _plan(
    geometry: Geometry,
    itemsize: int,
    *,
    source: tuple[int, int, int],
    target: tuple[int, int, int],
    phases: tuple[int, int],
    origin: tuple[int, int],
    step: tuple[int, int],
    start: tuple[int, ...],
    positions: tuple[int, ...],
    reach: tuple[int, ...],
    places: list[tuple[int, int, int]],
    limit: int,
) -> Plan:
    lanes = CHUNK_BYTES // itemsize
    side = _side(geometry.batch, positions[1], reach[1], lanes)
    period = positions[1] + reach[1]
    wide = (side - 1) * period + positions[1]
    height, width = _tile(positions[0], -(-wide // lanes), limit)
    tiles_width = -(-wide // (width * lanes))
    stride = _round_up(tiles_width * width * lanes + reach[1], lanes)
    row_bytes = source[0] * phases[0] * phases[1] * stride * itemsize
    bands, band_tiles = _bands(-(-positions[0] // height), height, reach[0], row_bytes)
    rows = band_tiles * height + reach[0]
    channel_stride = rows * stride * phases[0] * phases[1]
    group_channels = source[0] // geometry.groups
    table = _table(places, group_channels, rows * stride, stride, channel_stride)
    lines = (height + reach[0]) * (width + (reach[1] > 0)) * phases[0] * phases[1]
    block = _block(group_channels, lines * CHUNK_BYTES)
    # In the order of NAMES.
    numbers = (
        geometry.batch, side, *source, *phases, *origin, rows, stride, period, channel_stride, *target, *step, *start,
        band_tiles, tiles_width, bands, geometry.groups, block * len(places), table.numel(),
        band_tiles * height,
    )  # fmt: skip
    target_rows = target[0] * step[0] * step[1]
    return Plan(
        numbers=torch.tensor([number for _, number in zip(NAMES, numbers, strict=True)], device="cpu"),
        table=table,
        height=height,
        width=width,
        num_portions=-(-geometry.batch // side) * bands,
        source_floats=source[0] * channel_stride,
        target_floats=target_rows * band_tiles * height * tiles_width * width * lanes,
    )


def _bands(tiles: int, height: int, reach: int, row_bytes: int) -> tuple[int, int]:
    """Cut an image into bands whose copies fit the scratch: how many, and rows of tiles in each."""
    if not tiles:
        return 0, 0
    most = (_SCRATCH_BYTES // max(1, row_bytes) - reach) // height
    bands = -(-tiles // max(1, min(tiles, most)))
    return bands, -(-tiles // bands)


def _table(
    places: list[tuple[int, int, int]], channels: int, phase_size: int, stride: int, channel_stride: int
) -> Tensor:
    """Return where each weight reads, from (phase, row, column) of the places of the kernel."""
    starts = [phase * phase_size + row * stride + column for phase, row, column in places]
    in_channel = torch.tensor(starts, device="cpu")
    # A layer without inputs has a table too: its outputs are the bias, and a walk of no columns would write nothing.
    return (torch.arange(max(1, channels), device="cpu")[:, None] * channel_stride + in_channel).flatten()


def _block(channels: int, channel_bytes: int) -> int:
    """Return how many channels are read at once, about as many in each block."""
    blocks = -(-channels // max(1, _TILE_BYTES // channel_bytes))
    return max(1, -(-channels // max(1, blocks)))


def _tile(rows: int, chunks: int, limit: int) -> tuple[int, int]:
    """Choose the tile that wastes least, of those the one that needs fewest tiles: (rows, pieces of 64 bytes)."""
    sizes = [(height, width) for height in _HEIGHTS for width in _WIDTHS if height * width <= limit]

    def cost(size: tuple[int, int]) -> float:
        height, width = size
        # What a tile costs whatever its size: about two pieces.
        return -(-rows // height) * -(-chunks // width) * (height * width + 2)

    return min(sizes, key=cost)


def _side(batch: int, width: int, reach: int, lanes: int) -> int:
    """Choose how many samples stand side by side, so that narrow images fill the lanes."""

    def cost(side: int) -> float:
        return -(-((side - 1) * (width + reach) + width) // lanes) / side

    best = min(range(1, max(1, min(4, batch)) + 1), key=cost)
    return best if cost(best) < 0.8 * cost(1) else 1


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
