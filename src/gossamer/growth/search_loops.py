"""The loops of `search`, compiled."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

# Entries compared with the bar at once, all of one row.
AT_ONCE = 1 << 11
# Columns that share what rough entries may be off by.
GROUP = 1 << 6


@njit(cache=True, nogil=True, error_model="numpy")
def scan(
    tile: Floats,
    place: int,
    first: int,
    closed_rows: Flags,
    closed_columns: Flags,
    kept: Ints,
    bar: np.float32,
    last: int,
    scores: NDArray[np.float32],
    indices: Ints,
    held: int,
) -> tuple[int, int]:
    """Add candidates from a place of the tile on; return how many are held, -1 for a NaN, and where it stopped."""
    rows, columns = tile.shape
    width = closed_columns.size
    above, spots = np.zeros(AT_ONCE, np.bool_), np.empty(AT_ONCE + 8, np.int64)
    begin, slot = place % columns, 0
    for row in range(place // columns, rows):
        for column in range(begin, columns, AT_ONCE):
            start = first + row * width + column
            part = tile[row, column : column + AT_ONCE]
            # A score that equals the bar can only enter where indices are low enough.
            floor = bar if start >= last else np.nextafter(bar, np.float32(-np.inf))
            slot = _reach(kept, slot, start)
            found = _find(part, floor, kept, slot, start, above, spots)
            if found < 0:
                return -1, 0
            if held + found > scores.size:
                return held, row * columns + column
            offset = start % width
            is_closed = closed_rows[start // width]
            for spot in spots[:found]:
                score = np.float32(np.abs(part[spot]))
                if score != score:
                    return -1, 0
                scores[held] = score
                indices[held] = start + spot
                held += not (is_closed or closed_columns[offset + spot])
        begin = 0
    return held, tile.size


@njit(cache=True, nogil=True, error_model="numpy")
def scan_rough(
    tile: NDArray[np.uint16],
    place: int,
    first: int,
    row_errors: NDArray[np.float32],
    column_errors: NDArray[np.float32],
    closed_rows: Flags,
    closed_columns: Flags,
    kept: Ints,
    bar: np.float32,
    indices: Ints,
    held: int,
) -> tuple[int, int]:
    """Add the indices of what may reach the bar from a place of a bfloat16 tile on; return how many, and where.

    `column_errors` has one for each `GROUP` columns; a tile begins with a group.
    """
    rows, columns = tile.shape
    width = closed_columns.size
    above, spots = np.zeros(AT_ONCE, np.bool_), np.empty(AT_ONCE + 8, np.int64)
    floors = np.empty(AT_ONCE // GROUP, np.float32)
    begin, slot = place % columns, 0
    for row in range(place // columns, rows):
        for column in range(begin, columns, AT_ONCE):
            start = first + row * width + column
            offset = start % width
            part = tile[row, column : column + AT_ONCE]
            errors = column_errors[offset // GROUP : -(-(offset + part.size) // GROUP)]
            slot = _reach(kept, slot, start)
            _mark_rough(part, bar, row_errors[row], errors, floors, above)
            slot = _clear_kept(above, part.size, kept, slot, start)
            found = _list(above, part.size, spots)
            if held + found > indices.size:
                return held, row * columns + column
            is_closed = closed_rows[start // width]
            for spot in spots[:found]:
                indices[held] = start + spot
                held += not (is_closed or closed_columns[offset + spot])
        begin = 0
    return held, tile.size


@njit(cache=True, nogil=True, error_model="numpy")
def _mark_rough(
    part: NDArray[np.uint16],
    bar: np.float32,
    row_error: np.float32,
    errors: NDArray[np.float32],
    floors: NDArray[np.float32],
    above: Flags,
) -> None:
    """Mark what may reach the bar, given what bfloat16 numbers and their rows and columns may be off by."""
    for group in range(errors.size):
        floor = np.float32(0.996) * (bar - row_error * errors[group]) - np.float32(1e-30)
        floors[group] = max(floor, np.float32(0))
    # Numbers without a sign are ordered as their bits are; those of a bfloat16 are the upper half of a float32's.
    bits = floors.view(np.uint32)
    for group in range(errors.size):
        least = np.uint16(bits[group] >> np.uint32(16))
        numbers, marks = part[GROUP * group : GROUP * (group + 1)], above[GROUP * group : GROUP * (group + 1)]
        for i in range(numbers.size):
            marks[i] = (numbers[i] & np.uint16(0x7FFF)) >= least
    above[part.size :] = False


@njit(cache=True, nogil=True, error_model="numpy")
def _reach(kept: Ints, slot: int, index: int) -> int:
    """Return the first slot from this one on of which the index is not below; near ones are found at once."""
    step = 1
    while slot + step < kept.size and kept[slot + step] < index:
        slot += step
        step *= 2
    high = min(slot + step, kept.size)
    while slot < high:
        middle = (slot + high) // 2
        if kept[middle] < index:
            slot = middle + 1
        else:
            high = middle
    return slot


@njit(cache=True, nogil=True, error_model="numpy")
def _find(part: Floats, floor: np.float32, kept: Ints, slot: int, start: int, above: Flags, spots: Ints) -> int:
    """Write where a part exceeds the floor and is not kept; return how often, -1 for a NaN at what is kept."""
    for i in range(part.size):
        # Written so that a NaN counts.
        above[i] = not (np.float32(np.abs(part[i])) <= floor)
    above[part.size :] = False
    while slot < kept.size and kept[slot] < start + part.size:
        place = kept[slot] - start
        if part[place] != part[place]:
            return -1
        above[place] = False
        slot += 1
    return _list(above, part.size, spots)


@njit(cache=True, nogil=True, error_model="numpy")
def _clear_kept(above: Flags, size: int, kept: Ints, slot: int, start: int) -> int:
    """Unmark what is kept; return the first slot behind."""
    while slot < kept.size and kept[slot] < start + size:
        above[kept[slot] - start] = False
        slot += 1
    return slot


@njit(cache=True, nogil=True, error_model="numpy")
def _list(above: Flags, size: int, spots: Ints) -> int:
    """Write where something is marked; return how often."""
    words = above.view(np.uint64)
    found = 0
    for word in range(-(-size // 8)):
        if words[word]:
            # Without a branch, as which ones are above is nothing that a processor can guess.
            for i in range(8 * word, 8 * word + 8):
                spots[np.uint64(found)] = i
                found += above[i]
    return found


@njit(cache=True, nogil=True, error_model="numpy")
def enter(
    values: NDArray[np.float32],
    places: Ints,
    done: int,
    bar: np.float32,
    last: int,
    scores: NDArray[np.float32],
    indices: Ints,
    held: int,
) -> tuple[int, int]:
    """Add candidates from number `done` on, while there is room; return how many are held, -1 for a NaN, and done."""
    while done < values.size and held < scores.size:
        score, index = np.float32(np.abs(values[done])), places[done]
        if score != score:
            return -1, 0
        scores[held] = score
        indices[held] = index
        held += (score > bar) | ((score == bar) & (index < last))
        done += 1
    return held, done


@njit(cache=True, nogil=True, error_model="numpy")
def num_above(scores: NDArray[np.float32], bar: np.float32) -> int:
    """Count the scores above a bar."""
    above = 0
    for i in range(scores.size):
        above += scores[i] > bar
    return above


@njit(cache=True, nogil=True, error_model="numpy")
def compact(scores: NDArray[np.float32], indices: Ints, bar: np.float32, last: int) -> int:
    """Move what is above the bar, or equals it at an index up to the last, to the front; return how many."""
    found = 0
    for i in range(scores.size):
        score, index = scores[i], indices[i]
        scores[found] = score
        indices[found] = index
        found += (score > bar) | ((score == bar) & (index <= last))
    return found
