"""Layers whose weight is truly sparse, activations for sparse networks, and conversion of whole models."""

from gossamer.nn.all_relu import AllReLU
from gossamer.nn.convert import sparsify, to_dense, to_sparse
from gossamer.nn.dropout import Dropout
from gossamer.nn.sparse_linear import SparseLinear

__all__ = ["AllReLU", "Dropout", "SparseLinear", "sparsify", "to_dense", "to_sparse"]
