"""Exact random choices without a list of what is chosen from: time and memory follow the number drawn.

Numbers are drawn again and again from the whole range, and a number that comes twice counts once. Since no number is
preferred, the set of those that came is as likely as any other of its size, and so is a random part of it.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

# Draws in a bucket: what is sorted at once stays in the first cache.
_IN_BUCKET = 1024

Offsets = NDArray[np.unsignedinteger]
Ints = NDArray[np.int64]


class Drawn(NamedTuple):
    """A set of different integers in ascending order, each one bucket << shift | offset.

    Attributes:
        starts: the offsets of bucket b stand at [starts[b], starts[b + 1]), shape [buckets + 1], int64.
        offsets: ascending in each bucket, uint32, or uint64 where the range is very long.
        shift: how many bits an offset has, below 64.
    """

    starts: Ints
    offsets: Offsets
    shift: int


def distinct(total: int, count: int, *, generator: torch.Generator) -> Tensor:
    """Draw `count` different integers from [0, total), every such set equally likely.

    Args:
        total: size of the range, >= 0, below 2^63.
        count: how many, 0 <= count <= total.
        generator: source of randomness, on the CPU.

    Returns:
        The integers in ascending order, shape [count], int64, on the CPU.

    Raises:
        ValueError: count is negative or larger than total.

    Cost: O(count) time and memory, whatever `total` is.

    Example:
        >>> distinct(5, 5, generator=torch.Generator())
        tensor([0, 1, 2, 3, 4])
    """
    _check_count(total, count)
    if 2 * count > total:
        left_out = draw(total, total - count, generator=generator)
        return torch.from_numpy(_others(*left_out, total, count))
    return torch.from_numpy(_expand(*draw(total, count, generator=generator)))


def draw(total: int, count: int, *, generator: torch.Generator) -> Drawn:
    """Draw as `distinct` does, but leave the integers in four bytes each where eight are not needed.

    Args:
        total: size of the range, >= 0, below 2^63.
        count: how many, 0 <= count <= total; above half of it `distinct` is faster.
        generator: source of randomness, on the CPU.

    Returns:
        The integers in ascending order, bucket by bucket.

    Raises:
        ValueError: count is negative or larger than total.

    Example:
        >>> starts, offsets, shift = draw(1000, 5, generator=torch.Generator())
        >>> offsets.size, offsets.itemsize
        (5, 4)

    Source:
        The stream of numbers: Steele, Lea, Flood. Fast splittable pseudorandom number generators. OOPSLA 2014.
        Its integers without bias: Lemire. Fast random integer generation in an interval. 2019, arXiv:1805.10941.
    """
    _check_count(total, count)
    if not count:
        return Drawn(np.zeros(1, np.int64), np.empty(0, np.uint32), 0)
    # Sixty-four buckets or more: so little of the last one lies past the range that little is drawn in vain.
    shift = max(0, (total - 1).bit_length() - max(6, (count // _IN_BUCKET).bit_length()))
    # Beyond 32 bits an offset takes eight bytes; a few more buckets are cheaper, many are not.
    if shift > 32 and total >> 32 <= max(count // 64, 1 << 12):
        shift = 32
    num_buckets = ((total - 1) >> shift) + 1
    # So many draws hit `count` different ones on average; of a whole range the last comes after log(total) of it.
    wanted = -total * math.log1p(-min(count, total - 0.5) / total)
    num_draws = math.ceil((wanted + 5 * math.sqrt(wanted) + 16) * ((num_buckets << shift) / total))
    offset_type = np.uint32 if shift <= 32 else np.uint64
    while True:
        seeds = torch.randint(2**63 - 1, (2,), generator=generator, device="cpu")
        seed, surplus_seed = (np.uint64(part) for part in seeds.tolist())
        starts = _count(seed, num_draws, num_buckets, shift, total)
        offsets = np.empty(starts[-1], offset_type)
        _scatter(seed, num_draws, num_buckets, shift, total, starts, offsets)
        found = _sort_buckets(starts, offsets, shift)
        # Nearly always enough; beginning anew, rather than adding, leaves every set as likely as any other.
        if found >= count:
            _thin(starts, offsets, surplus_seed, count)
            return Drawn(starts, offsets[:count], shift)


def absent(present: Tensor, total: int, count: int, *, generator: torch.Generator) -> Tensor:
    """Draw `count` different integers from [0, total) that are not in `present`, uniformly.

    Args:
        present: ascending integers without repeats, shape [n], int64.
        total: size of the range.
        count: how many, at most total - n.
        generator: source of randomness, on the CPU.

    Returns:
        The integers in ascending order, shape [count], int64, on the device of `present`.

    Raises:
        ValueError: fewer than `count` are absent.

    Cost: O(count + n) time, no list of the absent ones.

    Example:
        >>> absent(torch.tensor([0, 2, 3]), 5, 2, generator=torch.Generator())
        tensor([1, 4])
    """
    ranks = distinct(total - present.numel(), count, generator=generator)
    _skip(ranks.numpy(), present.cpu().numpy())
    return ranks.to(present.device)


def distinct_in_rows(num_rows: int, total: int, count: int, *, generator: torch.Generator) -> Tensor:
    """Draw `count` different integers from [0, total) for each row, every such set equally likely.

    Args:
        num_rows: how many independent draws, >= 0.
        total: size of the range, >= 0.
        count: how many for each row, 0 <= count <= total.
        generator: source of randomness, on the CPU.

    Returns:
        Each row ascending, shape [num_rows, count], int64, on the CPU.

    Raises:
        ValueError: count is negative or larger than total.

    Cost: O(num_rows count^2) time and O(num_rows count) memory, whatever `total` is.

    Source:
        Bentley, Floyd. Programming pearls: a sample of brilliance. Communications of the ACM 1987.

    Example:
        >>> distinct_in_rows(2, 3, 3, generator=torch.Generator())
        tensor([[0, 1, 2], [0, 1, 2]])
    """
    _check_count(total, count)
    chosen = torch.empty(num_rows, count, dtype=torch.int64, device="cpu")
    for place in range(count):
        # One more integer becomes available; it is taken where the draw falls on one that is taken already.
        newest = total - count + place
        drawn = torch.randint(newest + 1, (num_rows,), generator=generator, device="cpu")
        taken = (chosen[:, :place] == drawn[:, None]).any(1)
        chosen[:, place] = torch.where(taken, newest, drawn)
    return chosen.sort(1).values


def _check_count(total: int, count: int) -> None:
    if not 0 <= count <= total:
        raise ValueError(f"cannot draw {count} different entries out of {total}; ask for at most {total}")


# In compiled code a seed and a word are 64 bits without sign.


@njit(cache=True, nogil=True, error_model="numpy")
def _word(seed: np.uint64, i: int) -> np.uint64:
    """The i-th number of a stream: 64 random bits."""
    word = np.uint64(seed) + np.uint64(i + 1) * np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return word ^ (word >> np.uint64(31))


@njit(cache=True, nogil=True, error_model="numpy")
def _place(seed: np.uint64, i: int, num_buckets: int, shift: int, total: int) -> tuple[int | np.int64, np.uint64]:
    """Bucket and offset of the i-th draw, the bucket -1 where it falls outside of the range."""
    word = _word(seed, i)
    low_bits = np.uint64(0xFFFFFFFF)
    product = (word >> np.uint64(32)) * np.uint64(num_buckets)
    # So many of the 2^32 words are left over when each bucket has its equal share of them.
    if product & low_bits < np.uint64(0x100000000) % np.uint64(num_buckets):
        return -1, np.uint64(0)
    bucket = np.int64(product >> np.uint64(32))
    offset = (word & low_bits) >> np.uint64(32 - min(shift, 32))
    if shift > 32:
        offset = _word(~np.uint64(seed), i) >> np.uint64(64 - shift)
    if bucket == num_buckets - 1 and (bucket << shift) + np.int64(offset) >= total:
        return -1, np.uint64(0)
    return bucket, offset


@njit(cache=True, nogil=True, error_model="numpy")
def _count(seed: np.uint64, num_draws: int, num_buckets: int, shift: int, total: int) -> Ints:
    starts = np.zeros(num_buckets + 1, np.int64)
    for i in range(num_draws):
        starts[_place(seed, i, num_buckets, shift, total)[0] + 1] += 1
    # Draws outside of the range were counted at the very beginning.
    starts[0] = 0
    for bucket in range(num_buckets):
        starts[bucket + 1] += starts[bucket]
    return starts


@njit(cache=True, nogil=True, error_model="numpy")
def _scatter(
    seed: np.uint64, num_draws: int, num_buckets: int, shift: int, total: int, starts: Ints, offsets: Offsets
) -> None:
    """Draw the same once more, each into its bucket."""
    free = starts[:-1].copy()
    for i in range(num_draws):
        bucket, offset = _place(seed, i, num_buckets, shift, total)
        if bucket >= 0:
            offsets[free[bucket]] = offset
            free[bucket] += 1


@njit(cache=True, nogil=True, error_model="numpy")
def _sort_buckets(starts: Ints, offsets: Offsets, shift: int) -> int:
    """Sort each bucket and leave out repeats, in place; return how many are left."""
    largest = np.diff(starts).max()
    scratch = np.empty(largest, offsets.dtype)
    free = np.empty(2 * largest + 2, np.int64)
    begin, found = 0, 0
    for bucket in range(starts.size - 1):
        end = starts[bucket + 1]
        part = offsets[begin:end]
        _sort(part, scratch[: part.size], free, shift)
        for i in range(part.size):
            if i == 0 or part[i] != part[i - 1]:
                offsets[found] = part[i]
                found += 1
        begin = end
        starts[bucket + 1] = found
    return found


@njit(cache=True, nogil=True, error_model="numpy")
def _sort(part: Offsets, scratch: Offsets, free: Ints, shift: int) -> None:
    """Sort numbers that are spread evenly over `shift` bits: by their first bits, then each into its place."""
    if part.size > 16 and shift:
        bits = 0
        while bits < shift and 1 << bits < part.size:
            bits += 1
        first = np.uint64(shift - bits)
        free[: (1 << bits) + 1] = 0
        for number in part:
            free[(np.uint64(number) >> first) + np.uint64(1)] += 1
        for i in range(1 << bits):
            free[i + 1] += free[i]
        for number in part:
            place = np.uint64(number) >> first
            scratch[free[place]] = number
            free[place] += 1
        part[:] = scratch
    for i in range(1, part.size):
        number = part[i]
        j = i
        while j and part[j - 1] > number:
            part[j] = part[j - 1]
            j -= 1
        part[j] = number


@njit(cache=True, nogil=True, error_model="numpy")
def _thin(starts: Ints, offsets: Offsets, seed: np.uint64, count: int) -> None:
    """Take numbers away at random, in place, until `count` are left."""
    found = starts[-1]
    kept = np.ones(found, np.bool_)
    bits = 0
    while 1 << bits < found:
        bits += 1
    left, i = found, 0
    while left > count:
        rank = np.int64(_word(seed, i) >> np.uint64(64 - bits)) if bits else 0
        i += 1
        if rank < found and kept[rank]:
            kept[rank] = False
            left -= 1
    begin, place = 0, 0
    for bucket in range(starts.size - 1):
        end = starts[bucket + 1]
        for slot in range(begin, end):
            offsets[place] = offsets[slot]
            place += kept[slot]
        begin = end
        starts[bucket + 1] = place


@njit(cache=True, nogil=True, error_model="numpy")
def _expand(starts: Ints, offsets: Offsets, shift: int) -> Ints:
    numbers = np.empty(offsets.size, np.int64)
    for bucket in range(starts.size - 1):
        for slot in range(starts[bucket], starts[bucket + 1]):
            numbers[slot] = (bucket << shift) + np.int64(offsets[slot])
    return numbers


@njit(cache=True, nogil=True, error_model="numpy")
def _others(starts: Ints, offsets: Offsets, shift: int, total: int, count: int) -> Ints:
    """The numbers of the range that were not drawn."""
    numbers = np.empty(count, np.int64)
    place, number = 0, 0
    for bucket in range(starts.size - 1):
        for slot in range(starts[bucket], starts[bucket + 1]):
            for other in range(number, (bucket << shift) + np.int64(offsets[slot])):
                numbers[place] = other
                place += 1
            number = int((bucket << shift) + np.int64(offsets[slot])) + 1
    for other in range(number, total):
        numbers[place] = other
        place += 1
    return numbers


@njit(cache=True, nogil=True, error_model="numpy")
def _skip(ranks: Ints, present: Ints) -> None:
    """Turn ascending ranks among the absent numbers into the numbers, in place."""
    before = 0
    for i in range(ranks.size):
        while before < present.size and present[before] - before <= ranks[i]:
            before += 1
        ranks[i] += before
