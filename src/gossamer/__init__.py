"""Gossamer: sparsity for PyTorch that pays. See docs/tour.md."""

from gossamer import budgets, criteria, data, growth, models, nn, recipes, report, schedules, updates
from gossamer.files import load, save
from gossamer.nn import sparsify, to_dense, to_sparse
from gossamer.sparsifier import Sparsifier
from gossamer.weights import prunable

__version__ = "0.1.0"

__all__ = [
    "Sparsifier",
    "budgets",
    "criteria",
    "data",
    "growth",
    "load",
    "models",
    "nn",
    "prunable",
    "recipes",
    "report",
    "save",
    "schedules",
    "sparsify",
    "to_dense",
    "to_sparse",
    "updates",
]
