"""Recurrent layers whose dense twin computes the same, and what both give."""

from typing import Any

import torch
from torch import Tensor, nn

from gossamer.nn import (
    SparseGRU,
    SparseGRUCell,
    SparseLinear,
    SparseLSTM,
    SparseLSTMCell,
    SparseRNN,
    SparseRNNCell,
    recurrent_weights,
)

# Submodules and parameters of a type that mypy cannot know.
Sparse = Any
CLASSES: dict[str, tuple[type[Any], type[Any], dict[str, Any]]] = {
    "tanh": (nn.RNN, SparseRNN, {"nonlinearity": "tanh"}),
    "relu": (nn.RNN, SparseRNN, {"nonlinearity": "relu"}),
    "gru": (nn.GRU, SparseGRU, {}),
    "lstm": (nn.LSTM, SparseLSTM, {}),
}
CELLS: dict[str, tuple[type[Any], type[Any], dict[str, Any]]] = {
    "tanh": (nn.RNNCell, SparseRNNCell, {"nonlinearity": "tanh"}),
    "relu": (nn.RNNCell, SparseRNNCell, {"nonlinearity": "relu"}),
    "gru": (nn.GRUCell, SparseGRUCell, {}),
    "lstm": (nn.LSTMCell, SparseLSTMCell, {}),
}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"bias": False},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
    {"num_layers": 3},
]
KINDS = sorted(CLASSES)


def normal(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def pair(
    kind: str, options: dict[str, Any], *, dtype: torch.dtype = torch.float64, hidden: int = 37
) -> tuple[Any, Sparse, dict[str, Tensor]]:
    """A dense layer with zeros, the sparse one that computes the same, and the masks by parameter."""
    dense_class, sparse_class, extra = CLASSES[kind]
    dense = dense_class(5, hidden, dtype=dtype, **extra, **options)
    masks = {}
    for seed, (name, parameter) in enumerate(dense.named_parameters()):
        parameter.data = normal(*parameter.shape, seed=seed, dtype=dtype) / 3
        if "weight" in name:
            masks[name] = normal(*parameter.shape, seed=seed + 100) > 0.5
            masks[name][2] = False  # an output without inputs
            parameter.data.mul_(masks[name])
    return dense, sparse_class.from_dense(dense, masks=masks), masks


def states(layer: Any, kind: str, *batch: int) -> Any:
    rows = layer.num_layers * (2 if layer.bidirectional else 1)
    dtype = next(layer.parameters()).dtype
    hidden, cell = (normal(rows, *batch, layer.hidden_size, seed=seed, dtype=dtype).requires_grad_() for seed in (7, 8))
    return (hidden, cell) if kind == "lstm" else hidden


def flat(states: Any) -> list[Tensor]:
    return list(states) if isinstance(states, tuple) else [states]


def outcome(layer: nn.Module, inputs: Tensor, states: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs and last states; gradients of inputs and first states."""
    layer.zero_grad()
    leaf = inputs.detach().clone().requires_grad_()
    firsts = [] if states is None else flat(states)
    for part in firsts:
        part.grad = None
    outputs, last = layer(leaf) if states is None else layer(leaf, states)
    results = [outputs, *flat(last)]
    total = sum((part * normal(*part.shape, seed=20, dtype=part.dtype)).sum() for part in results)
    assert isinstance(total, Tensor)
    total.backward()
    grads = [part.grad.clone() for part in (leaf, *firsts) if part.grad is not None]
    return [part.detach() for part in results], grads


def weight_grads(dense: Any, sparse: Sparse, masks: dict[str, Tensor]) -> list[tuple[Tensor | None, Tensor]]:
    pairs = []
    for end, theirs in recurrent_weights.names(dense.num_layers, dense.bidirectional):
        for part, short in (("input", "ih"), ("hidden", "hh")):
            ours, name = sparse.get_submodule(f"{part}_{end}"), f"weight_{short}_{theirs}"
            assert isinstance(ours, SparseLinear)
            pairs.append((ours.values.grad, dense.get_parameter(name).grad[masks[name]]))
            if ours.bias is not None:
                pairs.append((ours.bias.grad, dense.get_parameter(f"bias_{short}_{theirs}").grad))
    return pairs


def compare(dense: Any, sparse: Sparse, masks: dict[str, Tensor], inputs: Tensor, states: Any) -> None:
    rtol, atol = (1e-9, 1e-11) if inputs.dtype == torch.float64 else (1e-3, 2e-4)
    expected, found = (outcome(layer, inputs, states) for layer in (dense, sparse))

    for theirs, ours in zip((*expected[0], *expected[1]), (*found[0], *found[1]), strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)
    for grad, wanted in weight_grads(dense, sparse, masks):
        assert grad is not None
        torch.testing.assert_close(grad, wanted, rtol=rtol, atol=atol)
