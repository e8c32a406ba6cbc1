"""Penalties that a user adds to the loss, and proximal steps that set weights to exact zeros; one a file."""

from gossamer.penalties.group_hoyer_square import group_hoyer_square
from gossamer.penalties.group_lasso import group_lasso
from gossamer.penalties.group_lasso_step import group_lasso_step
from gossamer.penalties.hoyer_square import hoyer_square
from gossamer.penalties.l1 import l1
from gossamer.penalties.l1_step import l1_step
from gossamer.penalties.polarization import polarization
from gossamer.penalties.slimming import slimming

__all__ = [
    "group_hoyer_square",
    "group_lasso",
    "group_lasso_step",
    "hoyer_square",
    "l1",
    "l1_step",
    "polarization",
    "slimming",
]
