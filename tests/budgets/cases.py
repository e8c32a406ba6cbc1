"""One row for each budget: it enrols the budget in the contract tests."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from gossamer import budgets, counts

Shapes = Mapping[str, tuple[int, ...]]


def sum_of_parts(sizes: list[int], sparsity: float) -> int:
    """Return the total of a budget that gives each tensor its own count."""
    return sum(counts.num_active(size, sparsity) for size in sizes)


def count_of_sum(sizes: list[int], sparsity: float) -> int:
    """Return the total of a budget that splits one count."""
    return counts.num_active(sum(sizes), sparsity)


def with_ramps(budget: budgets.Budget) -> budgets.Budget:
    """Give a budget scores that rise to 1 in each tensor."""

    def called(shapes: Shapes, *, sparsity: float) -> dict[str, int]:
        scores = {name: (torch.arange(math.prod(shape)) + 1.0).view(shape) for name, shape in shapes.items()}
        return budget(shapes, sparsity=sparsity, scores={n: s / max(1, s.numel()) for n, s in scores.items()})

    return called


def with_scans(shapes: Shapes, *, sparsity: float) -> dict[str, int]:
    """Give `sensitivity` the same scan for each tensor, up to its end."""
    scan = {0.0: 1.0, 0.5: 1.0, 0.9: 1.2, 1.0: 3.0}
    return budgets.sensitivity(shapes, sparsity=sparsity, losses=dict.fromkeys(shapes, scan))


def first_and_a_fifth_of_the_last(sizes: list[int]) -> int:
    """Return the least that uniform+ keeps."""
    filled = [size for size in sizes if size]
    if len(filled) < 2:
        return sum(filled)
    return filled[0] + len(filled) - 2 + max(1, round(0.2 * filled[-1]))


@dataclass(frozen=True, kw_only=True)
class Case:
    """A budget and what it promises in all.

    Attributes:
        name: the budget.
        budget: the function.
        total: (sizes, sparsity) -> number of weights that all tensors keep together.
        least: sizes -> the smallest total that it can reach.
    """

    name: str
    budget: budgets.Budget
    total: Callable[[list[int], float], int]
    least: Callable[[list[int]], int] = lambda sizes: 0


CASES = [
    Case(name="uniform", budget=budgets.uniform, total=sum_of_parts),
    Case(name="er", budget=budgets.er, total=count_of_sum),
    Case(name="erk", budget=budgets.erk, total=count_of_sum),
    Case(
        name="uniform_plus",
        budget=budgets.uniform_plus,
        total=count_of_sum,
        least=first_and_a_fifth_of_the_last,
    ),
    Case(name="global_", budget=with_ramps(budgets.global_), total=count_of_sum),
    Case(name="lamp", budget=with_ramps(budgets.lamp), total=count_of_sum),
    Case(name="sensitivity", budget=with_scans, total=count_of_sum),
    Case(name="by_hand", budget=budgets.by_hand({}), total=count_of_sum, least=lambda sizes: sum(map(bool, sizes))),
    Case(
        name="floor",
        budget=budgets.floor(budgets.erk, num_active=3),
        total=count_of_sum,
        least=lambda sizes: sum(min(3, size) for size in sizes),
    ),
]
