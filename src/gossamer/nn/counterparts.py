"""Which truly sparse class stands for which dense one, and which weights of the two are the same."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.nn import recurrent_weights
from gossamer.nn.sparse_conv import SparseConv2d
from gossamer.nn.sparse_conv1d import SparseConv1d
from gossamer.nn.sparse_embedding import SparseEmbedding
from gossamer.nn.sparse_gru import SparseGRU, SparseGRUCell
from gossamer.nn.sparse_linear import SparseLinear
from gossamer.nn.sparse_lstm import SparseLSTM, SparseLSTMCell
from gossamer.nn.sparse_rnn import SparseRNN, SparseRNNCell

# Those that hold values and a topology themselves.
SparseLayer = SparseLinear | SparseConv2d | SparseConv1d | SparseEmbedding
SPARSE_LAYERS = (SparseLinear, SparseConv2d, SparseConv1d, SparseEmbedding)
# Those whose weights are truly sparse linear layers in them.
SPARSE_RECURRENT = (SparseRNN, SparseLSTM, SparseGRU, SparseRNNCell, SparseLSTMCell, SparseGRUCell)

# A dense class needs a row here to be converted; each sparse class has `from_dense` and `to_dense`.
COUNTERPARTS: Mapping[type[nn.Module], Any] = {
    nn.Linear: SparseLinear,
    nn.Conv2d: SparseConv2d,
    nn.Conv1d: SparseConv1d,
    nn.Embedding: SparseEmbedding,
    nn.RNN: SparseRNN,
    nn.LSTM: SparseLSTM,
    nn.GRU: SparseGRU,
    nn.RNNCell: SparseRNNCell,
    nn.LSTMCell: SparseLSTMCell,
    nn.GRUCell: SparseGRUCell,
}


def can_be_sparse(layer: nn.Module) -> bool:
    """Return whether there is a truly sparse layer that computes what a dense one does.

    Args:
        layer: of any class; a subclass may compute something else, and has none.

    Example:
        >>> can_be_sparse(nn.Conv2d(3, 8, 3)), can_be_sparse(nn.Conv2d(3, 8, 3, padding_mode="circular"))
        (True, False)
    """
    if type(layer) not in COUNTERPARTS:
        return False
    if isinstance(layer, (nn.Conv1d, nn.Conv2d)):
        return layer.padding_mode == "zeros"
    if isinstance(layer, nn.Embedding):
        return layer.max_norm is None and not layer.scale_grad_by_freq and not layer.sparse
    return not getattr(layer, "proj_size", 0)


def parts(layer: nn.Module) -> dict[str, str]:
    """Return which module of the truly sparse layer holds which weight of a dense one; "" is the layer itself.

    Args:
        layer: dense, of a class in `COUNTERPARTS`.

    Example:
        >>> parts(nn.Linear(2, 3)), parts(nn.LSTM(2, 3))
        ({'weight': ''}, {'weight_ih_l0': 'input_0', 'weight_hh_l0': 'hidden_0'})
    """
    if isinstance(layer, nn.RNNCellBase):
        return {"weight_ih": "input", "weight_hh": "hidden"}
    if not isinstance(layer, nn.RNNBase):
        return {"weight": ""}
    ends = recurrent_weights.names(layer.num_layers, layer.bidirectional)
    both = (("ih", "input"), ("hh", "hidden"))
    return {f"weight_{short}_{theirs}": f"{part}_{ours}" for ours, theirs in ends for short, part in both}


def sparse_of(layer: nn.Module, masks: Mapping[str, Tensor] | None = None) -> nn.Module:
    """Return the truly sparse layer that computes what a dense one does.

    Args:
        layer: dense, one that `can_be_sparse`; it is left as it is.
        masks: name of a weight in `parts(layer)` -> bool, its shape, the entries to keep. Default: what is not zero.

    Raises:
        ValueError: a mask has another shape than its weight.
    """
    kind = COUNTERPARTS[type(layer)]
    if isinstance(layer, (nn.RNNBase, nn.RNNCellBase)):
        sparse: nn.Module = kind.from_dense(layer, masks=masks)
    else:
        sparse = kind.from_dense(layer, mask=None if masks is None else masks["weight"])
    return sparse


def empty_of(layer: nn.Module) -> nn.Module:
    """Return the truly sparse layer in place of a dense one, without any weight: room for a state to be loaded."""
    masks = {name: torch.zeros_like(layer.get_parameter(name), dtype=torch.bool) for name in parts(layer)}
    return sparse_of(layer, masks)


def weight_shape(layer: SparseLayer) -> tuple[int, ...]:
    """Return the shape of the weight as the dense layer has it.

    Args:
        layer: truly sparse.

    Example:
        >>> weight_shape(SparseConv2d(8, 4, 3, sparsity=0.5, generator=torch.Generator()))
        (4, 8, 3, 3)
    """
    if isinstance(layer, (SparseConv2d, SparseConv1d)):
        return layer.dense_shape
    rows, columns = layer.topology.shape
    return rows, columns
