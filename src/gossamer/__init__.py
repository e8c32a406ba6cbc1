"""Gossamer: sparsity for PyTorch that pays. See docs/tour.md."""

from gossamer import (
    budgets,
    criteria,
    data,
    formats,
    growth,
    models,
    neurons,
    nn,
    patterns,
    penalties,
    recipes,
    reparametrizations,
    report,
    rewinding,
    schedules,
    solvers,
    statistics,
    updates,
)
from gossamer.acceleration import accelerate
from gossamer.controller import Controller
from gossamer.distillation import distillation
from gossamer.files import load, save
from gossamer.nn import sparsify, to_dense, to_sparse
from gossamer.pruning import prune
from gossamer.sparsifier import Sparsifier
from gossamer.weights import prunable

__version__ = "0.1.0"

__all__ = [
    "Controller",
    "Sparsifier",
    "accelerate",
    "budgets",
    "criteria",
    "data",
    "distillation",
    "formats",
    "growth",
    "load",
    "models",
    "neurons",
    "nn",
    "patterns",
    "penalties",
    "prunable",
    "prune",
    "recipes",
    "reparametrizations",
    "report",
    "rewinding",
    "save",
    "schedules",
    "solvers",
    "sparsify",
    "statistics",
    "to_dense",
    "to_sparse",
    "updates",
]
