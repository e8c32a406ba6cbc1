"""Ways to split a budget over the weights of a model, one a file: shapes in, numbers of active weights out."""

from gossamer.budgets.budget import Budget
from gossamer.budgets.by_hand import by_hand
from gossamer.budgets.er import er, er_epsilon, erk
from gossamer.budgets.floor import floor
from gossamer.budgets.global_ import global_
from gossamer.budgets.lamp import lamp
from gossamer.budgets.sensitivity import sensitivity
from gossamer.budgets.uniform import uniform
from gossamer.budgets.uniform_plus import uniform_plus
from gossamer.budgets.within import within_bytes, within_flops

__all__ = [
    "Budget",
    "by_hand",
    "er",
    "er_epsilon",
    "erk",
    "floor",
    "global_",
    "lamp",
    "sensitivity",
    "uniform",
    "uniform_plus",
    "within_bytes",
    "within_flops",
]
