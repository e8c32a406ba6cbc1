"""What sparse recurrent cells have in common: two weights, conversion, and one step."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.kernels import gates
from gossamer.nn import recurrent_weights
from gossamer.nn.parameter import drawn_on_cpu


def fill_(
    layer: recurrent_weights.Cell, num_gates: int, *, sparsity: float, generator: torch.Generator, dtype: Any
) -> None:
    """Give a cell its weights, `input` and `hidden`.

    Args:
        layer: has the sizes of its constructor as attributes.
        num_gates: rows of each weight for a hidden feature.
        sparsity: fraction of each weight that does not exist.
        generator: source of randomness, on the CPU.
        dtype: of the values.

    Raises:
        ValueError: a size is below 1.
    """
    size, hidden = layer.input_size, layer.hidden_size
    if size < 1 or hidden < 1:
        raise ValueError(f"input_size is {size}, hidden_size {hidden}; each must be 1 or more")
    with drawn_on_cpu(layer):
        for part, width in (("input", size), ("hidden", hidden)):
            weight = recurrent_weights.draw(
                num_gates * hidden, width, hidden,
                sparsity=sparsity, bias=layer.bias, generator=generator, dtype=dtype,
            )  # fmt: skip
            layer.add_module(part, weight)


def take_(layer: recurrent_weights.Cell, dense: nn.RNNCellBase, masks: Mapping[str, Tensor] | None) -> None:
    """Give a cell the weights of a dense one.

    Args:
        layer: has no weights yet.
        dense: torch's cell; it is left as it is.
        masks: by parameter name, or None.
    """
    known = recurrent_weights.check_masks(masks, dense)
    layer.input_size, layer.hidden_size, layer.bias = dense.input_size, dense.hidden_size, dense.bias
    for part, short in (("input", "ih"), ("hidden", "hh")):
        name, bias = f"weight_{short}", getattr(dense, f"bias_{short}") if dense.bias else None
        layer.add_module(part, recurrent_weights.from_dense(getattr(dense, name), bias, known.get(name), name=name))
    layer.train(dense.training)


def give_(layer: recurrent_weights.Cell, dense: nn.RNNCellBase) -> None:
    """Give a dense cell of the same sizes the weights of a sparse one.

    Args:
        layer: sparse cell.
        dense: torch's cell, whose parameters are replaced.
    """
    for part, short in (("input", "ih"), ("hidden", "hh")):
        linear = recurrent_weights.dense_of(layer.get_submodule(part))
        setattr(dense, f"weight_{short}", linear.weight)
        if dense.bias:
            setattr(dense, f"bias_{short}", linear.bias)
    dense.train(layer.training)


def run(
    layer: recurrent_weights.Cell, kind: gates.Kind, inputs: Tensor, hidden: Tensor | None, cell: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Apply one step.

    Args:
        layer: sparse cell.
        kind: which equations.
        inputs: [B, input_size] or [input_size].
        hidden: hidden state, [B, hidden_size] or [hidden_size], or None for zeros.
        cell: cell state, for "lstm".

    Returns:
        Hidden and cell state after.

    Raises:
        ValueError: a shape that does not fit.
    """
    size = layer.hidden_size
    if inputs.dim() not in (1, 2) or inputs.shape[-1] != layer.input_size:
        raise ValueError(
            f"input has shape {tuple(inputs.shape)}; the cell takes [B, input_size] or [input_size] with input_size = "
            f"{layer.input_size}"
        )
    projected: Tensor = layer.get_submodule("input")(inputs)
    states = [projected.new_zeros(*inputs.shape[:-1], size) if part is None else part for part in (hidden, cell)]
    for state in states:
        if state.shape != (*inputs.shape[:-1], size):
            raise ValueError(
                f"a state has shape {tuple(state.shape)}; for this input it must be {(*inputs.shape[:-1], size)}"
            )
    recurrent: Tensor = layer.get_submodule("hidden")(states[0])
    return gates.advance(kind, projected, recurrent, states[0], states[1])
