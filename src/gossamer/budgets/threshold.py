"""How many of the largest scores of a whole model each tensor has, without a sort and without a copy of them all."""

import struct
from collections.abc import Mapping

import torch
from torch import Tensor

from gossamer.budgets.budget import Shapes, check_names


def counts_of_largest(scores: Mapping[str, Tensor], total: int) -> dict[str, int]:
    """Return how many of the `total` largest scores each tensor has; ties go to the first tensors.

    Args:
        scores: of any shapes, no NaN.
        total: how many to count, from 0 to the number of scores.

    Returns:
        Counts by name, in the order of the mapping.

    Cost: 32 passes, 64 for float64, that halve the range of the threshold: over all scores until an eighth of them is
        left in it, then over a copy of those. Memory for a bool for each score of one tensor, and for that eighth.

    Example:
        >>> counts_of_largest({"a": torch.tensor([5.0, 1.0, 2.0]), "b": torch.tensor([4.0, 2.0])}, 3)
        {'a': 2, 'b': 1}
    """
    if not total:
        return dict.fromkeys(scores, 0)
    bits = 64 if any(values.dtype == torch.float64 for values in scores.values()) else 32
    dtype = torch.float64 if bits == 64 else torch.float32
    flat = {name: values.detach().to(dtype) for name, values in scores.items()}
    # Invariant: at least `total` scores reach the number with the key `low`, fewer the one with the key `high`.
    low, high = _key(-torch.inf, bits), _key(torch.inf, bits) + 1
    inside = list(flat.values())
    at_low, at_high, above = sum(values.numel() for values in inside), 0, 0
    while high - low > 1:
        middle = (low + high) // 2
        reaching = above + sum(int((values >= _number(middle, bits)).count_nonzero()) for values in inside)
        if reaching >= total:
            low, at_low = middle, reaching
        else:
            high, at_high = middle, reaching
        if at_high and 8 * (at_low - at_high) < sum(values.numel() for values in inside):
            first, last = _number(low, bits), _number(high, bits)
            inside, above = [values[(values >= first) & (values < last)] for values in inside], at_high
    threshold = _number(low, bits)
    found = {name: int((values > threshold).count_nonzero()) for name, values in flat.items()}
    missing = total - sum(found.values())
    for name, values in flat.items():
        equal = min(missing, int((values == threshold).count_nonzero()))
        found[name] += equal
        missing -= equal
    return found


def check_scores(shapes: Shapes, scores: Mapping[str, Tensor]) -> None:
    """Raise unless each tensor has scores of its shape that are numbers.

    Args:
        shapes: shape of each weight by name.
        scores: scores of each weight by name.

    Raises:
        ValueError: a name lacks or is unknown, a shape differs, or a score is NaN.
    """
    check_names(scores, shapes, what="scores")
    for name, shape in shapes.items():
        if tuple(scores[name].shape) != tuple(shape):
            raise ValueError(f"{name} has shape {tuple(shape)}, its scores {tuple(scores[name].shape)}; pass one shape")
        if bool(scores[name].isnan().any()):
            raise ValueError(
                f"{int(scores[name].isnan().sum())} scores of {name} are NaN; scores must be numbers, "
                "check data and loss"
            )


def _key(number: float, bits: int) -> int:
    """Number the floats of a width in ascending order: their bits, those of negative numbers turned round."""
    (key,) = struct.unpack("<q" if bits == 64 else "<i", struct.pack("<d" if bits == 64 else "<f", number))
    return int(key) if key >= 0 else int(key) ^ (2 ** (bits - 1) - 1)


def _number(key: int, bits: int) -> float:
    """The float with that key."""
    signed = key if key >= 0 else key ^ (2 ** (bits - 1) - 1)
    (number,) = struct.unpack("<d" if bits == 64 else "<f", struct.pack("<q" if bits == 64 else "<i", signed))
    return float(number)
