"""Constant fan-in: every output keeps the same number of weights."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.patterns.pattern import Shape, as_matrix, check_asked, check_feasible, nearest_multiple
from gossamer.patterns.within import keep_in_rows


@dataclass(frozen=True, kw_only=True, repr=False)
class ConstantFanIn:
    """The pattern that `constant_fan_in` returns."""

    def __repr__(self) -> str:
        return "constant_fan_in()"

    def nearest(self, shape: Shape, num_active: int) -> int:
        """Return the nearest multiple of the number of outputs."""
        rows, columns = as_matrix(self, shape)
        check_asked(self, shape, num_active)
        return nearest_multiple(rows, columns, num_active) if rows * columns else 0

    def keep(self, scores: Tensor, num_active: int) -> Tensor:
        """Mark the largest scores of each output, by place among equals."""
        check_feasible(self, scores, num_active)
        rows, columns = as_matrix(self, tuple(scores.shape))
        return keep_in_rows(scores.detach().reshape(rows, columns), num_active // max(1, rows)).reshape(scores.shape)

    def groups(self, shape: Shape) -> Tensor:
        """Number the entries: each comes and goes alone, in exchange for another of its row."""
        rows, columns = as_matrix(self, shape)
        return torch.arange(rows * columns).reshape(shape)


def constant_fan_in() -> ConstantFanIn:
    """Let every output keep the same number of weights.

    Scores compete within each row of the matrix [out, in * kernel]. Counts are multiples of the number of outputs. A
    matrix of this pattern needs no row pointers.

    Returns:
        A `Pattern`.

    Example:
        >>> import torch
        >>> constant_fan_in().keep(torch.tensor([[3.0, 0.0, 9.0], [2.0, 1.0, 0.0]]), 2)
        tensor([[False, False,  True],
                [ True, False, False]])

    Source:
        Lasby, Golubeva, Evci, Nica, Ioannou. Dynamic Sparse Training with Structured Sparsity. ICLR 2024,
        arXiv:2305.02299.
        Differs: the pattern alone; the paper also removes outputs whose inputs matter little.
    """
    return ConstantFanIn()
