"""Models that the command line and the examples train."""

from gossamer.models.mlp import mlp

__all__ = ["mlp"]
