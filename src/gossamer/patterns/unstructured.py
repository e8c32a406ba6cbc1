"""Unstructured: any entry may stay or go."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer import masks
from gossamer.patterns.pattern import Shape, check_asked


@dataclass(frozen=True, kw_only=True, repr=False)
class Unstructured:
    """The pattern that `unstructured` returns."""

    def __repr__(self) -> str:
        return "unstructured()"

    def nearest(self, shape: Shape, num_active: int) -> int:
        """Return the asked count: every count is possible."""
        return check_asked(self, shape, num_active)

    def keep(self, scores: Tensor, num_active: int) -> Tensor:
        """Mark the largest scores; equal scores are taken in order of their place."""
        check_asked(self, tuple(scores.shape), num_active)
        return masks.keep_largest(scores, num_active)

    def groups(self, shape: Shape) -> Tensor:
        """Number the entries: each is a group of its own."""
        return torch.arange(math.prod(shape)).view(shape)


def unstructured() -> Unstructured:
    """Let a mask take any shape; the only pattern that also takes tensors of one axis.

    Returns:
        A `Pattern`.

    Example:
        >>> import torch
        >>> unstructured().keep(torch.tensor([[1.0, 4.0], [3.0, 2.0]]), 2)
        tensor([[False,  True],
                [ True, False]])

    Source:
        LeCun, Denker, Solla. Optimal Brain Damage. NIPS 1989.
    """
    return Unstructured()
