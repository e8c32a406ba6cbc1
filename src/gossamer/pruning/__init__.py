"""Pruning of a trained model: by any criterion, budget and pattern."""

from gossamer.pruning.checkpoint import restore
from gossamer.pruning.methods import PRUNING_METHODS, PruningMethod, find_pruning_method
from gossamer.pruning.prune import prune
from gossamer.pruning.sensitivity_scan import sensitivity_scan
from gossamer.pruning.supply import KNOWN

__all__ = [
    "KNOWN",
    "PRUNING_METHODS",
    "PruningMethod",
    "find_pruning_method",
    "prune",
    "restore",
    "sensitivity_scan",
]
