"""The exact count-th largest of many numbers, by two bounds that a sample gives and one pass between them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.floating]
# Below it `kthvalue` on a copy takes no longer.
_MANY = 100_000


def kth_largest(parts: Sequence[Tensor], count: int) -> Tensor:
    """Return the smallest of the `count` largest numbers of several tensors together.

    Args:
        parts: of any shapes and one dtype. A NaN counts as larger than every number.
        count: from 1 to the number of entries of all of them.

    Returns:
        Shape [], dtype of the parts.

    Cost: O(n); for many floats on the CPU one pass over them without a copy, several times faster than `kthvalue`.

    Example:
        >>> kth_largest([torch.tensor([5.0, 1.0]), torch.tensor([[5.0, 4.0]])], 3)
        tensor(4.)
    """
    many = sum(part.numel() for part in parts) >= _MANY
    if many and all(_is_plain(part) for part in parts):
        found = _by_sample([_as_array(part) for part in parts if part.numel()], count)
        if found is not None:
            return torch.tensor(found, dtype=parts[0].dtype, device="cpu")
    flat = torch.cat([part.flatten() for part in parts]) if len(parts) > 1 else parts[0].flatten()
    return flat.kthvalue(flat.numel() - count + 1).values


def beside(numbers: Tensor, threshold: Tensor, *, marked: Tensor | None = None) -> tuple[int, int, int]:
    """Count the entries above a threshold, those that equal it and those that are NaN, in one pass without a copy.

    Args:
        numbers: any shape [*].
        threshold: what they are compared with, shape [], as `kth_largest` gives it.
        marked: bool, contiguous, of the same shape: becomes True where a number is not below the threshold.

    Example:
        >>> beside(torch.tensor([3.0, 2.0, 1.0, 2.0]), torch.tensor(2.0))
        (1, 2, 0)
    """
    if _is_plain(numbers):
        target = torch.empty(0, dtype=torch.bool, device="cpu") if marked is None else marked.view(-1)
        return _beside(_as_array(numbers), float(threshold), target.numpy())
    # A tensor, not a number: large integers are no floats.
    above, equal, unclear = numbers > threshold, numbers == threshold, numbers != numbers
    if marked is not None:
        marked.copy_(above | equal)
    return int(above.count_nonzero()), int(equal.count_nonzero()), int(unclear.count_nonzero())


def taken(numbers: Tensor, mask: Tensor) -> Tensor:
    """Return the marked numbers in their order, several times faster than indexing does.

    Args:
        numbers: shape [n].
        mask: bool, shape [n].

    Example:
        >>> taken(torch.tensor([5.0, 6.0, 7.0]), torch.tensor([True, False, True]))
        tensor([5., 7.])
    """
    if numbers.device.type != "cpu" or numbers.dtype not in (torch.float32, torch.float64, torch.int64):
        return numbers[mask]
    result = numbers.new_empty(int(mask.count_nonzero()) + 1)
    _take(numbers.detach().contiguous().numpy(), mask.contiguous().numpy(), result.numpy())
    return result[:-1]


def spread(mask: Tensor, among: Tensor) -> Tensor:
    """Mark in a whole what is marked among its members.

    Args:
        mask: which of the members, bool, shape [m].
        among: which entries of the whole are members, bool, shape [n], m of them True.

    Returns:
        Bool, shape [n].

    Example:
        >>> spread(torch.tensor([False, True]), torch.tensor([True, False, True]))
        tensor([False, False,  True])
    """
    result = torch.zeros_like(among)
    if among.device.type != "cpu":
        return result.masked_scatter_(among, mask)
    _spread(mask.contiguous().numpy(), among.contiguous().numpy(), result.numpy())
    return result


def places(mask: Tensor) -> Tensor:
    """Return where a vector is True, ascending, int64; numpy finds it several times faster than torch.

    Example:
        >>> places(torch.tensor([False, True, True]))
        tensor([1, 2])
    """
    if mask.device.type != "cpu":
        return mask.nonzero().flatten()
    return torch.from_numpy(np.flatnonzero(mask.numpy()))


def has_nan(numbers: Tensor) -> bool:
    """Return whether any entry is NaN, in one pass without a copy.

    Example:
        >>> has_nan(torch.tensor([1.0, float("nan")])), has_nan(torch.tensor([]))
        (True, False)
    """
    # The least number of a tensor with a NaN is NaN.
    return bool(numbers.numel() and numbers.is_floating_point() and numbers.detach().amin().isnan())


def _is_plain(part: Tensor) -> bool:
    return part.device.type == "cpu" and part.is_floating_point()


def _as_array(part: Tensor) -> Array:
    # Numpy has no bfloat16, and float32 holds every half precision number.
    wide = part.detach() if part.dtype == torch.float64 else part.detach().float()
    array: Array = wide.reshape(-1).numpy()
    return array


def _by_sample(parts: list[Array], count: int) -> float | None:
    """The value, or None where the sample misleads or there is a NaN."""
    total = sum(part.size for part in parts)
    # About as long to sort as what it leaves between the bounds.
    size = min(20_000, total // 50)
    # Places at random: a stride would meet the same place of every kernel. Only the time depends on them.
    places = np.random.default_rng(0)
    shares = [-(-part.size * size // total) for part in parts]
    drawn = [part[places.integers(part.size, size=share)] for part, share in zip(parts, shares, strict=True)]
    sample = -np.sort(-np.concatenate(drawn))
    rank = count / total * sample.size
    # Four deviations of the rank: nearly always enough, and if not, only time is lost.
    margin = 2 * math.sqrt(sample.size) + len(parts) + 2
    upper = sample[max(0, math.floor(rank - margin))]
    lower = sample[min(sample.size - 1, math.ceil(rank + margin))]
    between = np.empty(total // 5 + 16, dtype=sample.dtype)
    above, at_upper, inside, at_lower, below = 0, 0, 0, 0, 0
    for part in parts:
        counts = _split(part, lower, upper, between[inside:])
        if counts[2] < 0:
            return None
        above, at_upper = above + counts[0], at_upper + counts[1]
        inside, at_lower, below = inside + counts[2], at_lower + counts[3], below + counts[4]
    if above + at_upper + inside + at_lower + below < total:
        return None
    return _between(count - above, at_upper, between[:inside], at_lower, lower, upper)


def _between(rank: int, at_upper: int, inside: Array, at_lower: int, lower: float, upper: float) -> float | None:
    """The number of a rank counted from the upper bound downwards; the bounds may stand for many equal numbers."""
    if not 0 < rank <= at_upper + inside.size + at_lower:
        return None
    if rank <= at_upper:
        return float(upper)
    place = inside.size - (rank - at_upper)
    return float(lower) if place < 0 else float(np.partition(inside, place)[place])


@njit(cache=True, nogil=True)
def _split(part: Array, lower: float, upper: float, between: Array) -> tuple[int, int, int, int, int]:
    """Count what lies above, at the upper bound, between, at the lower bound and below, and collect what lies between.

    -1 for the third where that is more than there is room for. Equal bounds count as the upper one, NaN nowhere.
    """
    above, at_upper, inside, at_lower, below = 0, 0, 0, 0, 0
    for i in range(part.size):
        value = part[i]
        if value > upper:
            above += 1
        elif value == upper:
            at_upper += 1
        elif value > lower:
            if inside == between.size:
                return above, at_upper, -1, at_lower, below
            between[inside] = value
            inside += 1
        elif value == lower:
            at_lower += 1
        elif value < lower:
            below += 1
    return above, at_upper, inside, at_lower, below


@njit(cache=True, nogil=True)
def _beside(part: Array, threshold: float, marked: NDArray[np.bool_]) -> tuple[int, int, int]:
    above, equal, unclear = 0, 0, 0
    for i in range(part.size):
        above += part[i] > threshold
        equal += part[i] == threshold
        unclear += part[i] != part[i]
    for i in range(marked.size):
        marked[i] = part[i] >= threshold
    return above, equal, unclear


# Without a branch: which entries are marked is nothing that a processor can guess.


@njit(cache=True, nogil=True)
def _take(part: NDArray[Any], mask: NDArray[np.bool_], result: NDArray[Any]) -> None:
    """The last place of `result` is for what is written before it is known to stay."""
    found = 0
    for i in range(part.size):
        result[found] = part[i]
        found += mask[i]


@njit(cache=True, nogil=True)
def _spread(mask: NDArray[np.bool_], among: NDArray[np.bool_], result: NDArray[np.bool_]) -> None:
    if not mask.size:
        return
    seen = 0
    for i in range(among.size):
        result[i] = among[i] & mask[min(seen, mask.size - 1)]
        seen += among[i]
