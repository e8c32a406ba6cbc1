"""Layers whose weight is truly sparse, and activations for sparse networks."""

from gossamer.nn.all_relu import AllReLU
from gossamer.nn.sparse_linear import SparseLinear

__all__ = ["AllReLU", "SparseLinear"]
