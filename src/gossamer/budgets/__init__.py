"""Ways to split a budget over the weights of a model, one a file: shapes in, numbers of active weights out."""

from collections.abc import Callable

from gossamer.budgets.er import er, er_epsilon, erk
from gossamer.budgets.uniform import uniform

# (shapes by name, sparsity=...) -> number of active weights by name
Budget = Callable[..., dict[str, int]]

__all__ = ["Budget", "er", "er_epsilon", "erk", "uniform"]
