"""Layers whose weight is truly sparse, activations for sparse networks, and conversion of whole models."""

from gossamer.nn.all_relu import AllReLU
from gossamer.nn.convert import sparsify, to_dense, to_sparse
from gossamer.nn.sparse_conv import SparseConv2d
from gossamer.nn.sparse_conv1d import SparseConv1d
from gossamer.nn.sparse_linear import SparseLinear

__all__ = ["AllReLU", "SparseConv1d", "SparseConv2d", "SparseLinear", "sparsify", "to_dense", "to_sparse"]
