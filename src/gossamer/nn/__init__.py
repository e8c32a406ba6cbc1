"""Layers whose weight is truly sparse, activations for sparse networks, and conversion of whole models."""

from gossamer.nn.all_relu import AllReLU
from gossamer.nn.convert import sparsify, to_dense, to_sparse
from gossamer.nn.dropout import Dropout
from gossamer.nn.relu import ReLU
from gossamer.nn.sequential import Sequential
from gossamer.nn.sparse_conv import SparseConv2d
from gossamer.nn.sparse_conv1d import SparseConv1d
from gossamer.nn.sparse_embedding import SparseEmbedding
from gossamer.nn.sparse_gru import SparseGRU, SparseGRUCell
from gossamer.nn.sparse_linear import SparseLinear
from gossamer.nn.sparse_lstm import SparseLSTM, SparseLSTMCell
from gossamer.nn.sparse_rnn import SparseRNN, SparseRNNCell
from gossamer.nn.update_in_backward import update_in_backward

__all__ = [
    "AllReLU",
    "Dropout",
    "ReLU",
    "Sequential",
    "SparseConv1d",
    "SparseConv2d",
    "SparseEmbedding",
    "SparseGRU",
    "SparseGRUCell",
    "SparseLSTM",
    "SparseLSTMCell",
    "SparseLinear",
    "SparseRNN",
    "SparseRNNCell",
    "sparsify",
    "to_dense",
    "to_sparse",
    "update_in_backward",
]
