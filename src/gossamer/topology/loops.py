"""The loops of `csr`, compiled: they fill the arrays they are given, and check only what their docstrings say."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

Ints = NDArray[np.signedinteger[Any]]


def _request(_context: Any, array: Any, place: Any) -> Any:
    """Ask for the memory of array[place], which may lie behind its end: a request can do no harm."""

    def make(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        number, address = ir.IntType(32), ir.IntType(8).as_pointer()
        insert: Any = cgutils.get_or_insert_function
        request = insert(
            builder.module, ir.FunctionType(ir.VoidType(), [address, number, number, number]), "llvm.prefetch.p0"
        )
        # To write, to be kept in all caches, data.
        options = [number(1), number(3), number(1)]
        builder.call(request, [builder.bitcast(builder.gep(data, [values[1]]), address), *options])
        return context.get_dummy_value()

    return types.void(array, types.uint64), make


_will_write: Any = intrinsic(_request)


# In compiled code an index without sign is not looked at twice: a negative one would count from the end.


@njit(cache=True, nogil=True, error_model="numpy")
def split(linear: Ints, columns: int, pointers: Ints, indices: Ints) -> bool:
    """Write rows and columns of linear indices; False if they do not ascend or leave the matrix."""
    rows = pointers.size - 1
    row, begin, last = 0, 0, -1
    pointers[0] = 0
    for slot in range(linear.size):
        place = linear[slot]
        if place <= last or place >= rows * columns:
            return False
        last = place
        if place - begin >= columns:
            # A division where rows are skipped in numbers.
            target = row + 1 if place - begin < 2 * columns else place // columns
            pointers[row + 1 : target + 1] = slot
            row, begin = target, target * columns
        indices[slot] = place - begin
    pointers[row + 1 :] = linear.size
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def place(
    starts: Ints, offsets: NDArray[np.unsignedinteger[Any]], shift: int, columns: int, pointers: Ints, indices: Ints
) -> None:
    """Write rows and columns of drawn places; `indices` may be the memory of `offsets`."""
    row, begin = 0, 0
    pointers[0] = 0
    for bucket in range(starts.size - 1):
        first = bucket << shift
        for slot in range(starts[bucket], starts[bucket + 1]):
            column = first + np.int64(offsets[slot]) - begin
            while column >= columns:
                row += 1
                pointers[row] = slot
                begin += columns
                column -= columns
            indices[slot] = column
    pointers[row + 1 :] = indices.size


@njit(cache=True, nogil=True, error_model="numpy")
def find(active: NDArray[np.uint8], pointers: Ints, indices: Ints) -> None:
    """Write rows and columns of what is not zero."""
    rows, columns = active.shape
    slot = 0
    pointers[0] = 0
    for row in range(rows):
        line = active[row]
        whole = columns // 8 * 8
        for begin in range(0, whole, 8):
            # Eight at a time, as most are absent.
            if (
                line[begin]
                | line[begin + 1]
                | line[begin + 2]
                | line[begin + 3]
                | line[begin + 4]
                | line[begin + 5]
                | line[begin + 6]
                | line[begin + 7]
            ):
                for column in range(begin, begin + 8):
                    if line[column]:
                        indices[slot] = column
                        slot += 1
        for column in range(whole, columns):
            if line[column]:
                indices[slot] = column
                slot += 1
        pointers[row + 1] = slot


@njit(cache=True, nogil=True, error_model="numpy")
def join(pointers: Ints, indices: Ints, columns: int, linear: Ints) -> None:
    """Write row * columns + column of each entry."""
    for row in range(pointers.size - 1):
        begin = row * columns
        for slot in range(np.uint64(pointers[row]), np.uint64(pointers[row + 1])):
            linear[slot] = begin + indices[slot]


@njit(cache=True, nogil=True, error_model="numpy")
def ascends(pointers: Ints, indices: Ints) -> bool:
    """Tell whether columns ascend without repeats in each row."""
    for row in range(pointers.size - 1):
        for slot in range(pointers[row] + 1, pointers[row + 1]):
            if indices[slot] <= indices[slot - 1]:
                return False
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def repeat(pointers: Ints, rows: Ints) -> None:
    """Write the row of each entry."""
    for row in range(pointers.size - 1):
        for slot in range(np.uint64(pointers[row]), np.uint64(pointers[row + 1])):
            rows[slot] = row


@njit(cache=True, nogil=True, error_model="numpy")
def merge(
    old_pointers: Ints,
    old_indices: Ints,
    kept: Ints,
    grown: Ints,
    columns: int,
    pointers: Ints,
    indices: Ints,
    source: Ints,
) -> bool:
    """Write the rows of both; False if something is out of order or out of range."""
    slot, k, g, one = np.uint64(0), np.uint64(0), np.uint64(0), np.uint64(1)
    last_kept, first = np.int64(-1), 0
    pointers[0] = 0
    for row in range(pointers.size - 1):
        end, last_grown = old_pointers[row + 1], -1
        while True:
            next_grown = min(grown[g] - first, columns) if g < grown.size else columns
            if next_grown <= last_grown:
                return False
            # Runs of what is kept, up to the next that is grown.
            column = np.int64(-1)
            while k < kept.size and kept[k] < end:
                old = kept[k]
                column = np.int64(old_indices[np.uint64(old)]) if old > last_kept else np.int64(columns)
                if column >= next_grown:
                    break
                source[slot] = last_kept = old
                indices[slot] = column
                slot += one
                k += one
            if column == next_grown:
                return False
            if next_grown == columns:
                break
            source[slot] = -1 - np.int64(g)
            indices[slot] = last_grown = next_grown
            slot += one
            g += one
        first += columns
        pointers[row + 1] = slot
    return bool(slot == indices.size)


@njit(cache=True, nogil=True, error_model="numpy")
def locate(places: Ints, active: Ints, slots: Ints) -> None:
    """Write where each place stands among the active ones, -1 where it does not."""
    slot = 0
    for i in range(places.size):
        place = places[i]
        while slot < active.size and active[slot] < place:
            slot += 1
        slots[i] = slot if slot < active.size and active[slot] == place else -1


@njit(cache=True, nogil=True, error_model="numpy")
def follow(numbers: Ints, grown: Ints, source: Ints, result: Ints) -> None:
    """Write the number of each entry's source, or of what is grown there; zero where nothing is given for that."""
    for i in range(source.size):
        slot = source[i]
        if slot >= 0:
            result[i] = numbers[np.uint64(slot)]
        else:
            result[i] = grown[-1 - slot] if grown.size else 0


@njit(cache=True, nogil=True, error_model="numpy")
def count_columns(pointers: Ints, indices: Ints, column_pointers: Ints, row_indices: Ints, permutation: Ints) -> None:
    """Order entries by columns: count, add up, place."""
    free = np.zeros(column_pointers.size, column_pointers.dtype)
    for column in indices:
        free[np.uint64(column) + np.uint64(1)] += 1
    for column in range(free.size - 1):
        free[column + 1] += free[column]
    column_pointers[:] = free
    for row in range(pointers.size - 1):
        for slot in range(pointers[row], pointers[row + 1]):
            column = np.uint64(indices[slot])
            place = np.uint64(free[column])
            free[column] += 1
            row_indices[place] = row
            permutation[place] = slot


@njit(cache=True, nogil=True, error_model="numpy")
def count_in_buckets(
    pointers: Ints, indices: Ints, column_pointers: Ints, row_indices: Ints, permutation: Ints
) -> None:
    """The same in two passes, each of which writes to few places at once: what it writes stays in the caches."""
    columns = column_pointers.size - 1
    bits = 8
    while columns >> bits > 256 and bits < 15:
        bits += 1
    starts, low = _fill_buckets(pointers, indices, columns, bits, row_indices, permutation)
    largest = np.diff(starts).max()
    rows, slots = np.empty(largest, row_indices.dtype), np.empty(largest, row_indices.dtype)
    free = np.empty((1 << bits) + 1, np.int64)
    for bucket in range(starts.size - 1):
        start, size = starts[bucket], starts[bucket + 1] - starts[bucket]
        part = low[start : start + size]
        free[:] = 0
        for column in part:
            free[np.uint64(column) + np.uint64(1)] += 1
        free[0] = start
        for column in range(1 << bits):
            free[column + 1] += free[column]
        first = bucket << bits
        for column in range(min(1 << bits, columns - first)):
            column_pointers[first + column] = free[column]
        rows[:size] = row_indices[start : start + size]
        slots[:size] = permutation[start : start + size]
        for i in range(size):
            column = np.uint64(part[i])
            place = np.uint64(free[column])
            free[column] += 1
            row_indices[place] = rows[i]
            permutation[place] = slots[i]
    column_pointers[columns] = indices.size


@njit(cache=True, nogil=True, error_model="numpy")
def _fill_buckets(
    pointers: Ints, indices: Ints, columns: int, bits: int, row_indices: Ints, permutation: Ints
) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
    """Order entries by the high bits of their column; return where each bucket begins, and the low bits."""
    starts = np.zeros(((columns - 1) >> bits) + 2, np.int64)
    for column in indices:
        starts[(np.uint64(column) >> np.uint64(bits)) + np.uint64(1)] += 1
    for bucket in range(starts.size - 1):
        starts[bucket + 1] += starts[bucket]
    free, low = starts.copy(), np.empty(indices.size, np.uint16)
    for row in range(pointers.size - 1):
        for slot in range(pointers[row], pointers[row + 1]):
            column = np.uint64(indices[slot])
            place = np.uint64(free[column >> np.uint64(bits)])
            free[column >> np.uint64(bits)] += 1
            low[place] = column & np.uint64((1 << bits) - 1)
            row_indices[place] = row
            permutation[place] = slot
            # Some hundred streams are more than the processor foresees by itself.
            _will_write(low, place + np.uint64(48))
            _will_write(row_indices, place + np.uint64(24))
            _will_write(permutation, place + np.uint64(24))
    return starts, low
