"""Uniform+: the same share for each tensor, but the first stays dense and the last keeps a fifth at least."""

from collections.abc import Mapping

from gossamer import counts
from gossamer.budgets.budget import sizes_of
from gossamer.budgets.fill import proportional

LARGEST_SPARSITY_OF_LAST = 0.8


def uniform_plus(shapes: Mapping[str, tuple[int, ...]], *, sparsity: float) -> dict[str, int]:
    """Keep the first tensor dense and a fifth of the last; all others have the one sparsity that meets the total.

    The last has that sparsity too, where it is below 80 %. First and last are those of the mapping.

    Args:
        shapes: shape of each weight by name, in the order of the model.
        sparsity: fraction removed over all tensors together, in [0, 1).

    Returns:
        How many weights each tensor keeps; the total is exact and none that has entries keeps none.

    Raises:
        ValueError: sparsity outside [0, 1), or larger than what a dense first tensor and a fifth of the last allow.

    Example:
        >>> uniform_plus({"first": (10, 10), "a": (50, 20), "b": (10, 20), "last": (10, 10)}, sparsity=0.8)
        {'first': 100, 'a': 133, 'b': 27, 'last': 20}

    Source:
        Gale, Elsen, Hooker. The State of Sparsity in Deep Neural Networks. 2019, arXiv:1902.09574.
    """
    sizes = sizes_of(shapes)
    total = counts.num_active(sum(sizes.values()), sparsity)
    least = {name: min(1, size) for name, size in sizes.items()}
    if filled := [name for name, size in sizes.items() if size]:
        least[filled[-1]] = counts.num_active(sizes[filled[-1]], LARGEST_SPARSITY_OF_LAST)
        least[filled[0]] = sizes[filled[0]]
    if sum(least.values()) > total:
        largest = counts.sparsity_of(sum(least.values()), sum(sizes.values()))
        raise ValueError(
            f"uniform_plus cannot reach sparsity {sparsity}: it keeps {filled[0]} dense and a fifth of {filled[-1]}, "
            f"so {largest:.6g} is the largest; ask for less or use uniform"
        )
    wanted = [float(size) for size in sizes.values()]
    parts = proportional(total, wanted, list(least.values()), list(sizes.values()))
    return dict(zip(sizes, parts, strict=True))
