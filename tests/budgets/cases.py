"""One row for each budget: it enrols the budget in the contract tests."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gossamer import budgets, counts

Shapes = Mapping[str, tuple[int, ...]]


def sum_of_parts(sizes: list[int], sparsity: float) -> int:
    """Return the total of a budget that gives each tensor its own count."""
    return sum(counts.num_active(size, sparsity) for size in sizes)


def count_of_sum(sizes: list[int], sparsity: float) -> int:
    """Return the total of a budget that splits one count."""
    return counts.num_active(sum(sizes), sparsity)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A budget and what it promises in all.

    Attributes:
        name: the budget.
        budget: the function.
        total: (sizes, sparsity) -> number of weights that all tensors keep together.
    """

    name: str
    budget: budgets.Budget
    total: Callable[[list[int], float], int]


CASES = [
    Case(name="uniform", budget=budgets.uniform, total=sum_of_parts),
    Case(name="er", budget=budgets.er, total=count_of_sum),
    Case(name="erk", budget=budgets.erk, total=count_of_sum),
]
