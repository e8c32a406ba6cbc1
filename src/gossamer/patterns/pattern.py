"""What a pattern is, and the checks that all patterns share."""

import math
from typing import Protocol

from torch import Tensor

Shape = tuple[int, ...]
Matrix = tuple[int, int]


class Pattern(Protocol):
    """The shapes that a mask may take. It holds no state and does not know the weight it is used for."""

    def nearest(self, shape: Shape, num_active: int) -> int:
        """Return the count nearest to the asked one that a mask of this pattern can have.

        Of two that are equally near it is the smaller, but never 0 where any weight was asked for: a layer that keeps
        nothing would cut the network. A tensor without entries takes every pattern.

        Args:
            shape: of the weight, (out, in, ...).
            num_active: the asked count, from 0 to the number of entries.

        Raises:
            ValueError: the shape cannot take the pattern, or it has fewer entries than asked for.
        """

    def keep(self, scores: Tensor, num_active: int) -> Tensor:
        """Mark the weights to keep: of all masks of this pattern with that count the one with the largest scores.

        Args:
            scores: shape (out, in, ...), larger = keep, no NaN.
            num_active: how many to mark, a count that `nearest` returns.

        Returns:
            Mask, bool, shape of the scores, with exactly `num_active` entries True.

        Raises:
            ValueError: no mask of this pattern has that count, a score is NaN, or the shape cannot take the pattern.
        """

    def groups(self, shape: Shape) -> Tensor:
        """Number the groups: entries that come and go together have one number.

        Args:
            shape: of the weight, (out, in, ...).

        Returns:
            Shape of the weight, int64, on the CPU: 0 to the number of groups - 1.

        Raises:
            ValueError: the shape cannot take the pattern.
        """


def as_matrix(pattern: Pattern, shape: Shape) -> Matrix:
    """Return the size of the 2-D view of a weight: (out, in * kernel).

    Args:
        pattern: named in the error.
        shape: of the weight, (out, in, ...).

    Raises:
        ValueError: fewer than two axes.
    """
    if len(shape) < 2:
        raise ValueError(
            f"{pattern} needs a weight of at least two axes, (out, in), got shape {shape}; "
            "leave this tensor out or use unstructured()"
        )
    return shape[0], math.prod(shape[1:])


def check_asked(pattern: Pattern, shape: Shape, num_active: int) -> int:
    """Return the asked count if the tensor has as many entries, else raise.

    Args:
        pattern: named in the error.
        shape: of the weight.
        num_active: what a user asked for.

    Raises:
        ValueError: it is negative, or larger than the number of entries.
    """
    if not 0 <= num_active <= math.prod(shape):
        raise ValueError(
            f"{pattern} cannot keep {num_active} weights of a tensor of shape {shape}; ask for 0 to {math.prod(shape)}"
        )
    return num_active


def check_feasible(pattern: Pattern, scores: Tensor, num_active: int) -> None:
    """Raise unless the pattern has a mask of that count for these scores, and the scores are numbers.

    Args:
        pattern: asked for its nearest count.
        scores: any shape.
        num_active: what a user asked for.

    Raises:
        ValueError: no mask has that count, or a score is NaN.
    """
    shape = tuple(scores.shape)
    nearest = pattern.nearest(shape, num_active)
    if nearest != num_active:
        raise ValueError(
            f"{pattern} cannot keep exactly {num_active} weights of a tensor of shape {shape}; "
            f"the nearest count is {nearest}, as its nearest() tells"
        )
    if scores.is_floating_point() and bool(scores.isnan().any()):
        raise ValueError(f"{int(scores.isnan().sum())} scores are NaN; scores must be numbers, check data and loss")


def nearest_multiple(size: int, number: int, num_active: int) -> int:
    """Return the multiple of `size` nearest to the asked count: the smaller of two, 0 only if 0 is asked for.

    Args:
        size: of one group, >= 1.
        number: how many groups there are, >= 1.
        num_active: the asked count, from 0 to size * number.

    Example:
        >>> [nearest_multiple(10, 5, asked) for asked in (0, 1, 15, 16, 50)]
        [0, 10, 10, 20, 50]
    """
    return size * min(number, max(int(num_active > 0), -(-(2 * num_active - size) // (2 * size))))
