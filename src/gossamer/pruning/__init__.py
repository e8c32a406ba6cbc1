"""Pruning of a trained model: by any criterion, budget and pattern."""

from gossamer.pruning.prune import prune
from gossamer.pruning.supply import KNOWN

__all__ = ["KNOWN", "prune"]
