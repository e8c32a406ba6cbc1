"""Images of a sparse convolution on their way in and out: padded copies of a few samples, and tiles of the result.

`numbers` are those of `conv_plan.Plan`, at the places named here.
"""

import numba

from gossamer.kernels.blocks import OPTIONS
from gossamer.kernels.conv_plan import NAMES
from gossamer.kernels.simd_rows import load_between, store_first_rows, store_piece, store_rows

(
    BATCH, SIDE, SOURCE_CHANNELS, SOURCE_HEIGHT, SOURCE_WIDTH, PHASES_HEIGHT, PHASES_WIDTH, ORIGIN_HEIGHT,
    ORIGIN_WIDTH, PACKED_ROWS, PACKED_STRIDE, PERIOD, CHANNEL_STRIDE, TARGET_CHANNELS, TARGET_HEIGHT,
    TARGET_WIDTH, STEP_HEIGHT, STEP_WIDTH, START_HEIGHT, START_WIDTH, TILES_HEIGHT, TILES_WIDTH, BANDS,
    GROUPS, BLOCK_COLUMNS, ROW_COLUMNS, BAND_ROWS,
) = range(len(NAMES))  # fmt: skip
COUNT = len(NAMES)


@numba.njit(**OPTIONS)
def _pack_row(source, begin, source_width, packed, place, stride, samples, sample_stride, period, step, origin):
    """Copy one row of some samples, side by side, zeros around each."""
    packed[place : place + stride] = 0
    # The first column of the scratch that the image reaches, and how many it fills.
    first = max(0, -(origin // step))
    count = min(period, (source_width - origin + step - 1) // step) - first
    for sample in range(samples):
        there, here = begin + sample * sample_stride + first * step + origin, place + sample * period + first
        for column in range(count):
            packed[here + column] = source[there + column * step]


@numba.njit(**OPTIONS)
def _pack_plane(source, begin, width, packed, place, stride, rows, step, origin, lanes):
    """Copy some rows of one image whose columns stay together, zeros left and right."""
    for column in range(0, stride, lanes):
        # Rows inside: which lanes are read stays the same for all of them.
        there = column + origin
        for row in range(rows):
            piece = load_between(source, begin + row * step * width + there, -there, width - there)
            store_piece(packed, place + row * stride + column, piece)


@numba.njit(**OPTIONS)
def _pack(
    source, height, width, channels, phases, origin, packed, rows, stride, period, lanes, start, samples, first_row
):
    """Copy some samples of an image, phase by phase: packed[channel, phase, row, column]."""
    plane = height * width
    place = 0
    for channel in range(channels):
        begin = (start * channels + channel) * plane
        for phase_height in range(phases[0]):
            for phase_width in range(phases[1]):
                # Rows of the scratch that lie within the image; those above and below are zeros.
                line = first_row * phases[0] + phase_height + origin[0]
                above = min(rows, max(0, -(line // phases[0])))
                inside = max(above, min(rows, (height - line + phases[0] - 1) // phases[0])) - above
                packed[place : place + above * stride] = 0
                packed[place + (above + inside) * stride : place + rows * stride] = 0
                at, here = begin + (line + above * phases[0]) * width, place + above * stride
                if samples == 1 and phases[1] == 1:
                    _pack_plane(source, at, width, packed, here, stride, inside, phases[0], origin[1], lanes)
                else:
                    for row in range(inside):
                        _pack_row(
                            source, at + row * phases[0] * width, width, packed, here + row * stride, stride, samples,
                            channels * plane, period, phases[1], origin[1] + phase_width,
                        )  # fmt: skip
                place += rows * stride


@numba.njit(**OPTIONS)
def pack_source(numbers, source, packed, lanes, where):
    """Copy a portion of the source, zeros around it."""
    start, samples, band = where
    _pack(
        source, numbers[SOURCE_HEIGHT], numbers[SOURCE_WIDTH], numbers[SOURCE_CHANNELS],
        (numbers[PHASES_HEIGHT], numbers[PHASES_WIDTH]), (numbers[ORIGIN_HEIGHT], numbers[ORIGIN_WIDTH]), packed,
        numbers[PACKED_ROWS], numbers[PACKED_STRIDE], numbers[PERIOD], lanes, start, samples,
        band * numbers[BAND_ROWS],
    )  # fmt: skip


@numba.njit(**OPTIONS)
def of_portion(numbers, portion):
    """First sample, number of samples and band of a portion."""
    start = portion // numbers[BANDS] * numbers[SIDE]
    return start, min(numbers[SIDE], numbers[BATCH] - start), portion % numbers[BANDS]


@numba.njit(**OPTIONS)
def put(numbers, target, row, where, tile_row, tile_column, tile, waiting, height, width, lanes):
    """Write a tile of one row of the topology to the target image."""
    start, samples, band = where
    image_height, image_width = numbers[TARGET_HEIGHT], numbers[TARGET_WIDTH]
    top, left = band * numbers[BAND_ROWS] + tile_row * len(height), tile_column * len(width) * lanes
    # Divisions take as long as some entries of the topology: none on the usual way.
    if samples == 1 and numbers[STEP_HEIGHT] == 1 and numbers[STEP_WIDTH] == 1:
        begin = (start * numbers[TARGET_CHANNELS] + row) * image_height * image_width
        place = begin + top * image_width + left
        store_first_rows(target, place, image_width, tile, image_height - top, image_width - left)
        return
    store_rows(waiting, 0, len(width) * lanes, tile)
    _spread(numbers, target, row, start, samples, top, left, waiting, len(height), len(width) * lanes)


@numba.njit(**OPTIONS)
def _spread(numbers, target, row, start, samples, top, left, waiting, height, floats):
    """Write what waits to some samples, one phase of each."""
    step_height, step_width = numbers[STEP_HEIGHT], numbers[STEP_WIDTH]
    image_height, image_width = numbers[TARGET_HEIGHT], numbers[TARGET_WIDTH]
    channel, phase = row // (step_height * step_width), row % (step_height * step_width)
    shift = phase % step_width + numbers[START_WIDTH]
    for sample in range(samples):
        begin = ((start + sample) * numbers[TARGET_CHANNELS] + channel) * image_height * image_width
        # Where the sample's first column lies in the tile, and which of its columns lie in tile and image.
        offset = sample * numbers[PERIOD] - left
        first = max(0, -offset, -(shift // step_width))
        end = (image_width - shift + step_width - 1) // step_width
        last = min(floats - offset, end)
        for place in range(height):
            line = (top + place) * step_height + phase // step_width + numbers[START_HEIGHT]
            if 0 <= line < image_height:
                there = begin + line * image_width + shift
                for column in range(first, last):
                    target[there + column * step_width] = waiting[place * floats + offset + column]


@numba.njit(**OPTIONS)
def pack_twin(numbers, image, twin, rows, stride, lanes, where):
    """Copy the image that the target is the gradient of, in the tiles of the target."""
    start, samples, band = where
    _pack(
        image, numbers[TARGET_HEIGHT], numbers[TARGET_WIDTH], numbers[TARGET_CHANNELS],
        (numbers[STEP_HEIGHT], numbers[STEP_WIDTH]), (numbers[START_HEIGHT], numbers[START_WIDTH]), twin,
        rows, stride, numbers[PERIOD], lanes, start, samples, band * numbers[BAND_ROWS],
    )  # fmt: skip
