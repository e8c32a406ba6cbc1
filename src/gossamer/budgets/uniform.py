"""Uniform: every weight tensor keeps the same share."""

import math
from collections.abc import Mapping

from gossamer import counts


def uniform(shapes: Mapping[str, tuple[int, ...]], *, sparsity: float) -> dict[str, int]:
    """Give each tensor the same sparsity.

    Args:
        shapes: shape of each weight by name.
        sparsity: fraction removed from each, in [0, 1).

    Returns:
        How many weights each tensor keeps.

    Raises:
        ValueError: sparsity outside [0, 1).

    Example:
        >>> uniform({"a": (10, 20), "b": (5, 10)}, sparsity=0.9)
        {'a': 20, 'b': 5}
    """
    return {name: counts.num_active(math.prod(shape), sparsity) for name, shape in shapes.items()}
